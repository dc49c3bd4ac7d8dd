"""The masks of instances: binarised, resized, packed to bits, with their boxes and mean probabilities."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.matching_cost import nearest_index
from maskformer_ext.ops.support.library import native, register
from maskformer_ext.ops.support.rows import Stored, bands, resized


def resized_masks(
    mask_logits: Tensor,
    size: Sequence[int],
    threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    queries: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean probability inside each mask (n,), its box (n, 4) and the packed masks, at the output size.

    `queries` (n,) int64 chooses masks, which may be all of them.
    """
    if native("instance_masks", mask_logits):
        sizes = (size, threshold, input_size, crop)
        if mask_logits.device.type == "cpu" and queries is not None and not torch.compiler.is_compiling():
            return torch.ops.maskformer_ext.instance_masks(mask_logits, *sizes, queries.tolist())  # copies no logits
        return torch.ops.maskformer_ext.instance_masks(_chosen(mask_logits, queries), *sizes)
    mask_logits = _chosen(mask_logits, queries)
    bits = _empty_bits(len(mask_logits), size)
    total = torch.zeros(len(mask_logits), dtype=torch.float64, device=mask_logits.device)
    count = torch.zeros_like(total)
    for begin, end, band in bands(resized(Stored(mask_logits), size, input_size=input_size, crop=crop)):
        mask = band > threshold
        bits[:, begin:end] = _pack(mask)
        inside = mask.to(band.dtype)
        count += inside.sum((1, 2))
        total += inside.mul_(band.sigmoid_()).sum((1, 2))
    return total / count.clamp(min=1), *_with_boxes(bits, size[1], mask_logits.device)


def nearest_masks(
    mask_logits: Tensor,
    size: Sequence[int],
    threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    queries: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean probability inside each mask at (h, w), and its box and mask resized by nearest neighbour."""
    mask_logits = _chosen(mask_logits, queries)
    logits = Stored(mask_logits).rows(0, mask_logits.shape[1])
    mask = logits > threshold
    inside = mask.to(logits.dtype)
    mean = (logits.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)

    rows, columns = (
        _nearest_positions(mask_logits.shape[axis + 1], axis, size, input_size, crop, mask.device) for axis in (0, 1)
    )
    bits = _empty_bits(len(mask), size)
    step = max(1, (1 << 24) // max(1, len(mask) * size[1]))
    for begin in range(0, size[0], step):
        bits[:, begin : begin + step] = _pack(mask[:, rows[begin : begin + step]][..., columns])
    return mean, *_with_boxes(bits, size[1], mask.device)


def _nearest_positions(
    extent: int,
    axis: int,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    device: torch.device,
) -> Tensor:
    """Return the source index of each output position along one axis, through both resizes."""
    if input_size is None:
        return nearest_index(extent, size[axis], device)
    valid = (crop or input_size)[axis]
    return nearest_index(extent, input_size[axis], device)[nearest_index(valid, size[axis], device)]


def _chosen(mask_logits: Tensor, queries: Tensor | None) -> Tensor:
    return mask_logits if queries is None else mask_logits[queries]


def _empty_bits(count: int, size: Sequence[int]) -> np.ndarray:
    return np.zeros((count, size[0], (size[1] + 7) // 8), dtype=np.uint8)


def _pack(mask: Tensor) -> np.ndarray:
    return np.packbits(mask.cpu().numpy(), axis=-1, bitorder="little")


def _with_boxes(bits: np.ndarray, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the boxes (n, 4) float32 of packed masks, 0 for those without a pixel, and the masks as a tensor."""
    rows = np.logical_or.reduce(bits != 0, axis=2)
    columns = np.unpackbits(np.bitwise_or.reduce(bits, axis=1), axis=1, count=width, bitorder="little")
    edges = []
    for present in (columns, rows):
        edges.append((present.argmax(1), present.shape[1] - present[:, ::-1].argmax(1)))
    (x0, x1), (y0, y1) = edges
    occupied = np.logical_or.reduce(rows, axis=1)
    box = np.stack((x0, y0, x1, y1), axis=1).astype(np.float32) * occupied[:, None]
    return torch.from_numpy(box).to(device), torch.from_numpy(bits).to(device)


def _fake_masks(
    mask_logits: Tensor,
    size: Sequence[int],
    threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    queries: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    count, (height, width) = mask_logits.shape[0] if queries is None else len(queries), size
    new = mask_logits.new_empty
    return (
        new(count, dtype=torch.float32),
        new((count, 4), dtype=torch.float32),
        new((count, height, (width + 7) // 8), dtype=torch.uint8),
    )


register("instance_masks", fake=_fake_masks)
