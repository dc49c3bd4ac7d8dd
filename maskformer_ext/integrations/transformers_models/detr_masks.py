"""The masks in the labels of transformers' detection models, as targets of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.targets import Targets, make_targets
from maskformer_ext.ops.targets import VOID

_KNOWN = "_known_masks"


def make_mask_targets(labels: Sequence[Mapping[str, Tensor]], *, pad: bool = False) -> Targets | None:
    """Convert ``labels[image]["masks"]``.

    Args:
        labels: of each image. Masks are (T, H, W) zeros and ones of any dtype, as in transformers. A segment map is
            (H, W) integers that index the objects, with -1 = void.
        pad: take images of different sizes too, padded at the right and bottom.

    Returns:
        Targets whose classes are all 0, or None where ours cannot express the masks.
    """
    masks: list[Any] = [image.get("masks") for image in labels]
    dims = {mask.dim() if isinstance(mask, Tensor) else 0 for mask in masks}
    if dims not in ({2}, {3}) or len({mask.device for mask in masks}) > 1:
        return None
    sizes = {tuple(mask.shape[-2:]) for mask in masks}
    if len(sizes) > 1 and not pad:
        return None
    as_maps = dims == {2}
    if not as_maps and not all(mask.dtype == torch.bool or _is_binary(mask) for mask in masks):
        return None
    height, width = (max(extents) for extents in zip(*sizes, strict=True))
    outside = VOID if as_maps else 0
    masks = [F.pad(mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2]), value=outside) for mask in masks]
    counts = [len(image["class_labels"] if as_maps else mask) for image, mask in zip(labels, masks, strict=True)]
    return make_targets(masks, [torch.zeros(count, dtype=torch.int64, device=masks[0].device) for count in counts])


def _is_binary(mask: Tensor) -> bool:
    return bool(((mask == 0) | (mask == 1)).all())


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
