"""The per-pixel classification baselines that the paper compares with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config import ModelConfig
from maskformer_ext.modeling.layers import MLP, Backbone, init_he_fan_out
from maskformer_ext.modeling.maskformer import MASK_EMBED_LAYERS
from maskformer_ext.modeling.pixel_level import PixelLevelModule
from maskformer_ext.ops.mask_dot import mask_dot
from maskformer_ext.ops.support import value_checks
from maskformer_ext.ops.support.strided_logits import enlarge
from maskformer_ext.ops.targets import SegmentTargets

_IGNORE = -100


@dataclass
class PerPixelOutput:
    """Class logits of every pixel.

    Attributes:
        logits: (B, K, h, w).
        aux: the same of every earlier decoder layer (empty without a transformer).
    """

    logits: Tensor
    aux: list[Tensor] = field(default_factory=list)

    @property
    def class_logits(self) -> None:
        """None: there are no queries."""

    def mask_logits(self) -> Tensor:
        """Return ``logits``, under the name that inference has for what lies at a network's stride."""
        return self.logits


class PerPixelBaseline(PixelLevelModule):
    """Classify every pixel by a 1x1 convolution on the mask features."""

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__(config, backbone)
        self.classifier = nn.Conv2d(config.mask_dim, self.num_classes, kernel_size=1)
        init_he_fan_out(self.classifier)
        self.finish()

    def forward(self, images: Tensor) -> PerPixelOutput:
        """Classify the pixels of (B, 3, H, W) normalised images at the stride of the mask features."""
        mask_features, _ = self.pixel_level(images)
        return PerPixelOutput(self.classifier(mask_features))


class PerPixelBaselinePlus(PixelLevelModule):
    """Classify every pixel with MaskFormer's own modules: a query per class, whose mask logits are the class logits."""

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__(config, backbone)
        self.transformer_decoder = self.build_transformer_decoder(self.num_classes)
        self.mask_head = MLP(config.hidden_dim, config.hidden_dim, config.mask_dim, MASK_EMBED_LAYERS)
        self.finish()

    def forward(self, images: Tensor) -> PerPixelOutput:
        """Classify the pixels of (B, 3, H, W) normalised images; earlier layers are formed in training only."""
        mask_features, memory = self.pixel_level(images)
        queries = self.transformer_decoder(memory)
        if not (self.training and self.config.deep_supervision):
            queries = queries[-1:]
        logits = mask_dot(self.mask_head(queries), mask_features)
        *aux, last = logits.unbind(0)
        return PerPixelOutput(last, aux)


class PerPixelCriterion(nn.Module):
    """Mean cross-entropy over the pixels that are not void, for every supervised layer.

    It is called like ``MaskFormerCriterion``, so that a training loop needs no second path.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(
        self, out: PerPixelOutput, targets: SegmentTargets, num_masks: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Compare class logits with a label map.

        Args:
            out: logits at some stride.
            targets: semantic segments; the logits are resized to their size.
            num_masks: not used by this loss.

        Returns:
            The sum over layers, then the losses ``loss_sem_seg``, ``loss_sem_seg_0`` and so on, then the counts
            ``nonfinite_queries`` and ``invalid_targets``.

        Raises:
            TypeError: if the targets are overlapping masks, which have no label map.
            ValueError: a target is out of range, on the CPU or with `MASKFORMER_EXT_CHECKS=1`. Elsewhere such segments
                and pixels are ignored, and counted.
        """
        if not isinstance(targets, SegmentTargets):
            raise TypeError(f"PerPixelCriterion: targets must be SegmentTargets, got {type(targets).__name__}")
        if value_checks.may_read(targets.device):
            value_checks.check_targets("PerPixelCriterion", targets)
            value_checks.check_labels("PerPixelCriterion", targets, self.num_classes)
        labels, invalid = _label_map(targets, self.num_classes)
        losses = {"loss_sem_seg": _cross_entropy(out.logits, labels)}
        for layer, logits in enumerate(out.aux):
            losses[f"loss_sem_seg_{layer}"] = _cross_entropy(logits, labels)
        nonfinite = (~torch.isfinite(out.logits.detach())).flatten(2).any(2).sum()
        return (
            torch.stack(list(losses.values())).sum(),
            losses,
            {"nonfinite_queries": nonfinite, "invalid_targets": invalid},
        )


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Resize (B, K, h, w) logits to the (B, H, W) labels and average over the pixels that have a label."""
    height, width = labels.shape[-2:]
    # with the classes of a pixel side by side, resize and softmax run over whole vectors: four times as fast on a CPU
    pixels = logits.float().contiguous(memory_format=torch.channels_last)
    rows = enlarge(pixels, height)[..., :height, :width].permute(0, 2, 3, 1).flatten(0, 2)
    loss = F.cross_entropy(rows, labels.flatten(), ignore_index=_IGNORE, reduction="sum")
    return loss / (labels != _IGNORE).sum().clamp(min=1)


def _label_map(targets: SegmentTargets, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the (B, H, W) class ids, void and what is out of range ignored, and how much is out of range."""
    capacity = targets.labels.shape[1]
    counts = targets.num_segments.clamp(0, capacity).unsqueeze(1)
    real = torch.arange(capacity, device=counts.device) < counts
    known = real & (targets.labels >= 0) & (targets.labels < num_classes)
    table = F.pad(torch.where(known, targets.labels, _IGNORE), (1, 0), value=_IGNORE)  # entry 0 is void
    owner = targets.segment_map.flatten(1)
    owner = torch.where((owner >= 0) & (owner < counts), owner.long() + 1, 0)
    label_map = table.gather(1, owner).view_as(targets.segment_map)
    return label_map, (real & ~known).sum() + value_checks.count_invalid(targets)
