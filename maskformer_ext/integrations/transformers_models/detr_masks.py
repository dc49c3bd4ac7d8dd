"""The masks in the labels of transformers' detection models, as targets of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

Targets = SegmentTargets | MaskTargets
_KNOWN = "_known_masks"


def make_mask_targets(labels: Sequence[Mapping[str, Tensor]], *, pad: bool = False) -> Targets | None:
    """Convert ``labels[image]["masks"]``, (T, H, W) of zeros and ones of any dtype.

    Args:
        labels: of each image.
        pad: take images of different sizes too, padded with zeros at the right and bottom.

    Returns:
        Targets whose classes are all 0, or None where ours cannot express the masks.
    """
    masks = [image.get("masks") for image in labels]
    if not masks or not all(isinstance(mask, Tensor) and mask.dim() == 3 for mask in masks):
        return None
    sizes = {tuple(mask.shape[1:]) for mask in masks}
    if (len(sizes) > 1 and not pad) or len({mask.device for mask in masks}) > 1:
        return None
    if not all(mask.dtype == torch.bool or bool(((mask == 0) | (mask == 1)).all()) for mask in masks):
        return None
    height, width = (max(extents) for extents in zip(*sizes, strict=True))
    masks = [F.pad(mask, (0, width - mask.shape[2], 0, height - mask.shape[1])) for mask in masks]
    no_class = [torch.zeros(len(mask), dtype=torch.int64, device=mask.device) for mask in masks]
    return SegmentTargets.from_masks(masks, no_class)


def mask_targets(module: nn.Module, labels: Any, *, pad: bool = False) -> Targets | None:
    """Return `make_mask_targets`, inside `masks_known` converted once."""
    known: dict[Any, Any] = vars(module).get(_KNOWN, {})
    if id(labels) not in known:
        known[id(labels)] = make_mask_targets(labels, pad=pad)
    return known[id(labels)]


@contextmanager
def masks_known(*modules: nn.Module) -> Iterator[None]:
    """Let a criterion and its matcher convert the same labels once, for all layers."""
    known: dict[Any, Any] = {}
    for module in modules:
        vars(module)[_KNOWN] = known
    try:
        yield
    finally:
        for module in modules:
            del vars(module)[_KNOWN]
