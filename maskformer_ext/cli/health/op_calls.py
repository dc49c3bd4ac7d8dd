"""A small call of every op, for the self-test: all tensors fit together and are drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskformer_ext import ops
from maskformer_ext.ops.support.batch_targets import BatchTargets

_B, _Q, _K, _C, _T, _POINTS = 2, 20, 8, 32, 4, 96
_SIZE, _FULL = (24, 32), (96, 128)
_LEVELS = ((12, 16), (6, 8))


@dataclass(frozen=True)
class Call:
    """A call of an op's public function.

    Attributes:
        function: to call.
        floating: floating tensors by the names of parameters; they take every dtype.
        rest: everything else, by name.
        wrt: the floating tensors that gradients flow to, where the op is differentiable; by default all.
    """

    function: Callable[..., Any]
    floating: dict[str, Tensor]
    rest: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()

    def to(self, device: str) -> Call:
        """Return the same call on a device."""
        moves = Tensor | BatchTargets
        rest = {name: value.to(device) if isinstance(value, moves) else value for name, value in self.rest.items()}
        return Call(self.function, {name: x.to(device) for name, x in self.floating.items()}, rest, self.wrt)


def op_calls() -> dict[str, Call]:
    """Return a call for every op of tensors, by its name in the catalog."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def share(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    label_map = torch.arange(_T).view(2, 2).repeat_interleave(_FULL[0] // 2, 0).repeat_interleave(_FULL[1] // 2, 1)
    label_map = torch.stack([label_map, label_map.flip(1)])
    label_map[:, :3] = 255
    targets = ops.SegmentTargets.from_label_map(label_map)
    image, segment = (part[: _B * _T] for part in targets.pairs())  # padding follows
    pairs = {"image_index": image, "segment_index": segment}
    class_logits, masks = draw(_B, _Q, _K + 1), draw(_B, _Q, *_SIZE)
    embed, features = draw(_B, _Q, _C) / _C**0.5, draw(_B, _C, *_SIZE)
    matched, inside = draw(len(image), *_SIZE), share(len(image), *_SIZE) > 0.5
    centres, sides = 0.3 + 0.4 * share(_B, _Q, 2), 0.05 + 0.3 * share(_B, _Q, 2)
    boxes = torch.cat([centres, sides], -1)
    counts = torch.full((_B,), _T)
    box_targets = ops.BoxTargets(boxes[:, :_T].clone(), torch.arange(_T).repeat(_B, 1), counts)
    one = {"class_logits": class_logits[0], "mask_logits": masks[0]}
    dot = {"mask_embed": embed, "mask_features": features}
    points = share(_B, _POINTS, 2)
    attention = {
        "value": draw(_B, sum(height * width for height, width in _LEVELS), 4, 16),
        "sampling_locations": share(_B, _Q, 4, len(_LEVELS), 4, 2),
        "attention_weights": share(_B, _Q, 4, len(_LEVELS), 4),
    }
    with_targets = {"targets": targets}
    return {
        "attention_mask": Call(ops.attention_mask, dot, {"size": (12, 16)}),
        "box_matching_cost": Call(
            ops.box_matching_cost, {"logits": class_logits, "boxes": boxes}, {"targets": box_targets}
        ),
        "dice_loss": Call(ops.dice_loss, {"mask_logits": matched}, {"targets": inside}),
        "instance_inference": Call(ops.instance_inference, one, {"size": _FULL}),
        "linear_sum_assignment": Call(ops.linear_sum_assignment, {"cost": share(_B, _Q, _T)}, {"num_targets": counts}),
        "mask_dot": Call(ops.mask_dot, dot),
        "mask_loss": Call(ops.mask_loss, {"mask_logits": matched}, {"targets": share(len(image), *_FULL) > 0.5}),
        "matched_mask_loss": Call(ops.matched_mask_loss, {"mask_logits": matched}, with_targets | pairs),
        "matching_cost": Call(ops.matching_cost, {"class_logits": class_logits, "mask_logits": masks}, with_targets),
        "matching_cost_from_embeddings": Call(
            ops.matching_cost_from_embeddings, {"class_logits": class_logits, **dot}, with_targets
        ),
        "ms_deform_attn": Call(ops.ms_deform_attn, attention, {"spatial_shapes": _LEVELS}),
        "pair_dot": Call(
            ops.pair_dot,
            {"pair_embed": draw(len(image), 1, _C), "mask_features": features},
            {"image_index": image, "max_segments": _T},
        ),
        "panoptic_inference": Call(ops.panoptic_inference, one, {"size": _FULL, "thing_classes": [0, 1]}),
        "point_mask_loss": Call(
            ops.point_mask_loss,
            {"mask_logits": matched},
            with_targets | pairs | {"points": share(len(image), _POINTS, 2)},
        ),
        "point_matching_cost": Call(
            ops.point_matching_cost,
            {"class_logits": class_logits, "mask_logits": masks},
            with_targets | {"points": points},
        ),
        "point_matching_cost_from_embeddings": Call(
            ops.point_matching_cost_from_embeddings,
            {"class_logits": class_logits, **dot},
            with_targets | {"points": points},
        ),
        "semantic_inference": Call(ops.semantic_inference, one, {"size": _FULL}),
        "sigmoid_focal_loss": Call(
            ops.sigmoid_focal_loss, {"inputs": matched, "targets": inside.float()}, wrt=("inputs",)
        ),
        "uncertain_points": Call(
            ops.uncertain_points,
            {"mask_logits": matched},
            {"candidates": share(len(image), 4 * _POINTS, 2), "count": _POINTS},
        ),
    }
