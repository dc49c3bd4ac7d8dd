"""One training step, forward and backward, against transformers' MaskFormer on the same weights and data.

transformers supervises the input of the decoder too. It takes the predictions from the hidden states, and the first of
those is the decoder's input, all zeros. Here the peer `transformers` leaves it out, so that both supervise the same six
layers. The peer `transformers, as installed` keeps it.

transformers' hidden states lack the shared final normalisation. At initialisation this changes nothing: every layer
ends in a normalisation of gain 1 and offset 0, and the final one has the same.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, relative_error
from benchmarks.eomt_step import build_eomt
from benchmarks.mask2former_step import build_mask2former
from maskformer_ext.checkpoints import load_original
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import ModelConfig
from maskformer_ext.modeling.backbone import freeze_batch_norm
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import SegmentTargets

SMALL = {"images": 1, "segments": 3, "size": 64, "dtype": "float32"}
ON_GPU = [
    {"model": model, "backbone": "resnet50", "images": 16, "dtype": "bfloat16"} for model in ("ours", "accelerated")
]
ON_GPU += [{"model": model, "images": 16, "dtype": "bfloat16"} for model in ("eomt", "eomt_dinov3")]
_EOMT = {"eomt": "Eomt", "eomt_dinov3": "EomtDinov3"}
ON_GPU += [{"model": model, "images": 16, "dtype": "bfloat16"} for model in ("mask2former", "oneformer")]
_MASK2FORMER = {"mask2former": "Mask2Former", "oneformer": "OneFormer"}
_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_GRADIENT_TOLERANCE = 1e-3
_NAMES = {"loss_cross_entropy": "loss_ce", "loss_mask": "loss_mask", "loss_dice": "loss_dice"}


def _same_layers() -> type:
    """Make the class of transformers' model, supervised on the outputs of its decoder layers only."""
    from transformers import MaskFormerForInstanceSegmentation

    class SameLayers(MaskFormerForInstanceSegmentation):
        def get_logits(self, outputs):
            """Leave out the first hidden state, the decoder's input."""
            outputs.transformer_decoder_hidden_states = outputs.transformer_decoder_hidden_states[1:]
            return super().get_logits(outputs)

    return SameLayers


def transformers_config(classes: int, queries: int, backbone_name: str = "swin_tiny") -> Any:
    """Configure transformers' MaskFormer with Swin-T or R50 and deep supervision, without dropout and drop path."""
    from transformers import DetrConfig, MaskFormerConfig, ResNetConfig, SwinConfig

    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.0,
        out_features=_STAGES,  # type: ignore[call-arg]  # of every backbone, and not in its signature
    )
    backbone = {"swin_tiny": swin, "resnet50": ResNetConfig(out_features=_STAGES)}[backbone_name]  # type: ignore[call-arg]
    decoder = DetrConfig(dropout=0.0, num_queries=queries)
    return MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        use_auxiliary_loss=True,
        num_labels=classes,  # type: ignore[call-arg]
    )


def _installed(classes: int, queries: int, backbone: str) -> torch.nn.Module:
    """Make transformers' model with query embeddings that differ."""
    from transformers import MaskFormerForInstanceSegmentation

    installed = MaskFormerForInstanceSegmentation(transformers_config(classes, queries, backbone))
    freeze_batch_norm(installed.model.pixel_level_module.encoder)
    # The original draws query embeddings from N(0, 1). transformers draws them with a standard deviation of 0.02. Then
    # all queries are alike, and rounding decides the assignment.
    torch.nn.init.normal_(installed.model.transformer_module.queries_embedder.weight)
    return installed


def _twin(installed: Any, their_class: type) -> Any:
    """Make a model of `their_class` with the same configuration and weights."""
    twin = their_class(installed.config)
    freeze_batch_norm(twin.model.pixel_level_module.encoder)
    twin.load_state_dict(installed.state_dict())
    return twin


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class _TransformersStep:
    """Run transformers' model forward and backward, and return its unweighted losses under our names."""

    def __init__(self, model: Any, inputs: dict[str, Any], skipped: int, dtype: torch.dtype) -> None:
        self.model, self.inputs, self.skipped, self.dtype = model, inputs, skipped, dtype
        self.losses: dict[str, Tensor] = {}
        model.criterion.register_forward_hook(self._note)

    def _note(self, _module, _arguments, losses: dict[str, Tensor]) -> None:
        # They are weighted in place afterwards, hence the copies.
        self.losses = {name: value.detach().clone() for name, value in losses.items()}

    def __call__(self) -> dict[str, Tensor]:
        self.model.zero_grad(set_to_none=True)
        with _precision(self.inputs["pixel_values"].device, self.dtype):
            loss = self.model(**self.inputs, output_hidden_states=True).loss
        loss.backward()
        return self._renamed()

    def _renamed(self) -> dict[str, Tensor]:
        renamed = {}
        for name, value in self.losses.items():
            stem, _, layer = name.rpartition("_")
            if not layer.isdigit():
                renamed[_NAMES[name]] = value
            elif int(layer) >= self.skipped:
                renamed[f"{_NAMES[stem]}_{int(layer) - self.skipped}"] = value
        return renamed


class _OurStep:
    """Run our model forward and backward, and return its losses."""

    def __init__(
        self, model: torch.nn.Module, classes: int, pixels: Tensor, targets: SegmentTargets, dtype: torch.dtype
    ) -> None:
        self.model, self.pixels, self.targets, self.dtype = model, pixels, targets, dtype
        self.criterion = MaskFormerCriterion(classes).to(pixels.device)

    def __call__(self) -> dict[str, Tensor]:
        self.model.zero_grad(set_to_none=True)
        with _precision(self.pixels.device, self.dtype):
            total, losses, _ = self.criterion(self.model(self.pixels), self.targets)
        total.backward()
        return {name: value.detach() for name, value in losses.items()}


def _gradient_norm(model: torch.nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))


def build(
    *,
    device: str,
    model: str = "ours",
    backbone: str = "swin_tiny",
    dtype: str = "float32",
    images: int = 2,
    segments: int = 20,
    size: int = 512,
    queries: int = 100,
    classes: int = 150,
) -> Case:
    """Make both models with the same weights, and a batch of images with segments that do not overlap.

    `backbone` is "swin_tiny" or "resnet50", whose batch norms are frozen in both. Half precision is autocast's.

    With `model="accelerated"` ours is transformers' network after `accelerate`, and the peer is the same without it.
    Likewise with "mask2former" and "oneformer"; with "eomt" and "eomt_dinov3", which have a ViT-S, 200 queries.
    """
    if model in _EOMT:
        return build_eomt(
            kind=_EOMT[model],
            device=device,
            dtype=dtype,
            images=images,
            segments=segments,
            size=size,
            queries=2 * queries,
            classes=classes,
        )
    if model in _MASK2FORMER:
        return build_mask2former(
            kind=_MASK2FORMER[model],
            device=device,
            backbone=backbone,
            dtype=dtype,
            images=images,
            segments=segments,
            size=size,
            queries=queries,
            classes=classes,
        )
    torch.manual_seed(3)
    kind = getattr(torch, dtype)
    # Without transformers our own network is measured alone; the accelerated one is theirs.
    installed = _installed(classes, queries, backbone) if model == "accelerated" or optional("transformers") else None
    pixels = torch.randn(images, 3, size, size, device=device)
    segment_map = scenes.segment_maps(images, segments, size)
    labels = torch.randint(classes, (images, segments))
    targets = SegmentTargets(segment_map, labels, torch.full((images,), segments)).with_pairs().to(device)
    inputs = {
        "pixel_values": pixels,
        "mask_labels": [scenes.masks_of(owners, segments).float().to(device) for owners in segment_map],
        "class_labels": list(labels.to(device)),
    }
    ours: _OurStep | _TransformersStep
    peers: dict[str, Any]
    if model == "accelerated":
        from maskformer_ext.integrations.transformers import accelerate

        ours = _TransformersStep(accelerate(_twin(installed, type(installed))), inputs, 0, kind)
        peers = {"transformers": _TransformersStep(installed, inputs, 0, kind)}
    else:
        network = build_model(
            ModelConfig(backbone=backbone, num_classes=classes, num_queries=queries, dropout=0.0, drop_path=0.0)
        )
        ours = _OurStep(network, classes, pixels, targets, kind)
        peers = {}
    if model == "ours" and installed is not None:
        load_original(network, to_original_names(installed.state_dict()))
        peers["transformers"] = _TransformersStep(_twin(installed, _same_layers()), inputs, 0, kind)
        if device == "cpu":
            peers["transformers, as installed"] = _TransformersStep(installed, inputs, 1, kind)
    for step in (ours, *peers.values()):
        step.model.to(device).train()

    def error(result: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
        """Compare each loss. Once the peer with the same layers has run, compare the norm of all gradients too."""
        peer = peers["transformers"].model
        if peer.class_predictor.weight.grad is not None and kind == torch.float32:
            norm, expected = _gradient_norm(ours.model), _gradient_norm(peer)
            if abs(norm / expected - 1) > _GRADIENT_TOLERANCE:
                raise AssertionError(f"train_step: the gradient's norm must be {expected:.6g}, got {norm:.6g}")
        return relative_error(result, reference)

    def forget() -> None:
        for step in (ours, *peers.values()):
            step.model.zero_grad(set_to_none=True)

    name = {"swin_tiny": "Swin-T", "resnet50": "R50"}[backbone]
    return Case(
        op="train_step",
        title=f"{name}, {size}x{size}, batch {images}, {segments} segments per image, "
        + ("transformers' network after accelerate()" if model == "accelerated" else "6 supervised layers")
        + ("" if dtype == "float32" else f", {dtype}"),
        ours=ours,
        peers=peers,
        no_peer="transformers is not installed",
        # In half precision the two networks round differently, and rounding decides some of the assignments.
        tolerance=1e-4 if dtype == "float32" else 1e-1,
        inputs={"images": pixels, "segment_map": segment_map},
        error=error,
        forget=forget,
        kernels=("matched_mask_loss", "matching_cost", "linear_sum_assignment"),
        notes=(
            "forward and backward, gradients included, without the optimiser's step, which is the same for both",
            "dropout and drop path 0; query embeddings drawn from N(0, 1)",
            "`as installed` also supervises the predictions from the decoder's all-zero input, a seventh layer",
        ),
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["ours", "accelerated", *_MASK2FORMER, *_EOMT])
def test_train_step(compare, model):
    """The whole step with network, matching and losses: our network, and transformers' networks after `accelerate`."""
    compare(seconds=60.0, model=model)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_train_step_on_a_gpu(compare_on_gpu, parameters):
    """A batch of 16 images in bfloat16."""
    compare_on_gpu(seconds=10.0, **parameters)
