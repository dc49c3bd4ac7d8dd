"""Scored instance masks of one image, streamed over rows of the output."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.support import checks, rle
from maskformer_ext.ops.support.constants import class_table
from maskformer_ext.ops.support.instance_masks import nearest_masks, resized_masks
from maskformer_ext.ops.support.library import NAMESPACE
from maskformer_ext.ops.support.predictions import check_prediction, class_probabilities

_OP = "instance_inference"
_MASK_BYTES = 1 << 27  # of masks that are made at a time: those without a pixel are dropped before the next


@dataclass(frozen=True)
class Instances:
    """Instances of one image, best score first in the order of their class probabilities.

    Attributes:
        scores: (n,) float32.
        labels: (n,) int64 class ids.
        boxes: (n, 4) float32, x0 y0 x1 y1 in half-open pixels.
        packed_masks: (n, H, ceil(W / 8)) uint8, eight pixels per byte, the lowest bit leftmost.
        size: (H, W).
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    packed_masks: Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice | list[int]) -> "Instances":
        """Select instances by a slice, an index or a boolean mask."""
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            index = index.nonzero().flatten()  # counted once for all four
        return Instances(
            self.scores[index], self.labels[index], self.boxes[index], self.packed_masks[index], size=self.size
        )

    @property
    def masks(self) -> Tensor:
        """The masks as (n, H, W) bool, unpacked on demand."""
        packed = self.packed_masks.cpu().numpy()
        bits = np.unpackbits(packed, axis=-1, count=self.size[1], bitorder="little")
        return torch.from_numpy(bits).view(torch.bool).to(self.packed_masks.device)

    def rle(self) -> list[dict[str, Any]]:
        """Encode the masks as COCO run lengths (column-major), ``{"size": [H, W], "counts": bytes}`` each."""
        return rle.encode_all(self.packed_masks.cpu().numpy(), self.boxes.long().cpu().numpy(), self.size)


def instance_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    *,
    top_k: int = 100,
    thing_classes: Iterable[int] | None = None,
    mask_threshold: float = 0.5,
    input_size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    resize: str = "logits",
) -> Instances:
    """Return the most probable (query, class) pairs with their masks.

    Args:
        class_logits: (Q, K + 1) floating, the last column "no object".
        mask_logits: (Q, h, w) floating.
        size: output (H, W) in pixels.
        top_k: how many of the Q x K class probabilities are taken, ties to the lower index.
        thing_classes: ids of the classes to keep, all by default; others are dropped from the top k.
        mask_threshold: a pixel belongs to the mask where its probability exceeds this.
        input_size: the padded network input (H, W); resized to before ``size``.
        crop: the valid (H, W) of the network input, cut out before the resize to ``size``.
        resize: "logits" resizes mask logits to ``size``. "nearest" does as Hugging Face transformers. The
            binary masks of size (h, w) are resized by nearest neighbour. The mean mask probability is that at (h, w).

    Returns:
        The instances that have a pixel, in descending order of class probability. A score is the class probability
        times the mean mask probability inside the mask.

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes, sizes or devices do not fit, a value is out of range, or the inputs are meta tensors.

    Source: Mask2Former (arXiv 2112.01527), section 4.1, for the score.
    """
    check_prediction(_OP, class_logits, mask_logits, size, input_size, crop)
    checks.check_choice(_OP, "resize", resize, ("logits", "nearest"))
    checks.check_has_values(_OP, mask_logits)
    top_k = checks.whole_number(_OP, "top_k", top_k)
    if top_k < 1:
        raise ValueError(f"{_OP}: top_k must be at least 1, got {top_k}")
    checks.check_finite(_OP, mask_threshold=mask_threshold)
    if not 0 <= mask_threshold <= 1:
        raise ValueError(f"{_OP}: mask_threshold must lie between 0 and 1, got {mask_threshold}")
    pairs = class_logits.shape[0] * (class_logits.shape[1] - 1)  # rows that cannot be filled would only cost memory
    find = _count_instances if _may_count(mask_logits.device) and not torch.compiler.is_compiling() else _list_instances
    return find(
        class_logits.detach(),
        mask_logits.detach(),
        (int(size[0]), int(size[1])),
        min(top_k, pairs),
        None if thing_classes is None else checks.whole_numbers(_OP, "thing_classes", thing_classes),
        float(mask_threshold),
        input_size,
        crop,
        resize,
    )


def _list_instances(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], *options: Any) -> Instances:
    """Return the valid rows of the registered op, whose shapes follow from no value."""
    scores, labels, boxes, valid, packed = _instance_inference(class_logits, mask_logits, size, *options)
    return Instances(scores, labels, boxes, packed, size)[valid]


def _count_instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    top_k: int,
    thing_classes: Sequence[int] | None,
    mask_threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    resize: str,
) -> Instances:
    """Return the same where shapes may follow from values: no row is made, and no mask kept, that is not returned."""
    query, label, ranked, real = _ranked_pairs(class_logits, mask_logits, top_k, thing_classes)
    query, label, ranked = query[real], label[real], ranked[real]
    needed, which = _distinct(query, len(mask_logits))
    first = torch.full((len(needed),), len(query)).scatter_reduce(0, which, torch.arange(len(query)), "amin")
    order = first.argsort()  # of a query's best class, so that the masks lie as they are returned
    needed, which = needed[order], order.argsort()[which]

    row = size[0] * ((size[1] + 7) // 8)
    step = max(1, _MASK_BYTES // max(1, row))
    whole = len(needed) <= step  # the masks are then made once, where they stay
    packed = torch.empty((0 if whole else len(needed), size[0], (size[1] + 7) // 8), dtype=torch.uint8)
    place, kept = torch.full((len(needed),), -1), 0
    mean, box = torch.zeros(len(needed), dtype=torch.float64), torch.zeros((len(needed), 4))
    binarise = nearest_masks if resize == "nearest" else resized_masks
    for begin in range(0, len(needed), step):
        part = slice(begin, begin + step)
        mean[part], box[part], bits = binarise(
            mask_logits, size, _logit(mask_threshold), input_size, crop, needed[part]
        )
        found = (box[part, 2] > 0).nonzero().flatten()
        place[begin + found] = torch.arange(kept, kept + len(found))
        bits = bits if len(found) == len(bits) else bits[found]
        if whole:
            packed = bits
        else:
            packed[kept : kept + len(found)] = bits  # untouched pages cost nothing
        kept += len(found)
    rows = (place[which] >= 0).nonzero().flatten()
    query = which[rows]
    masks = packed[:kept] if torch.equal(place[query], torch.arange(kept)) else packed[place[query]]
    return Instances((ranked[rows] * mean[query]).float(), label[rows], box[query], masks, size)


@torch.library.custom_op(
    f"{NAMESPACE}::instance_inference",
    mutates_args=(),
    schema=(
        "(Tensor class_logits, Tensor mask_logits, SymInt[] size, SymInt top_k, int[]? thing_classes, "
        "float mask_threshold, SymInt[]? input_size, SymInt[]? crop, str resize) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def _instance_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    top_k: int,
    thing_classes: Sequence[int] | None,
    mask_threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    resize: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return scores, labels, boxes, valid and packed masks, each with top_k rows; masks only where valid.

    Nothing here waits for a device that has the kernel: there, rows that drop out are carried along as invalid.
    """
    scores, labels, boxes, valid, packed = _empty_result(class_logits, size, top_k)
    query, label, ranked, real = _ranked_pairs(class_logits, mask_logits, top_k, thing_classes)
    if _may_count(query.device):
        rows = real.nonzero().flatten()
        query, label, ranked, real = (values[rows] for values in (query, label, ranked, real))
    else:
        rows = torch.arange(len(query), device=query.device)
    if len(rows) == 0:
        return scores, labels, boxes, valid, packed

    # Several of the top k may share a query: each query's mask is made once.
    needed, which = _distinct(query, len(mask_logits))
    binarise = nearest_masks if resize == "nearest" else resized_masks
    mean, box, bits = binarise(mask_logits, size, _logit(mask_threshold), input_size, crop, needed)
    scores[rows] = (ranked * mean[which]).to(scores.dtype).where(real, 0)
    labels[rows] = label.where(real, 0)
    boxes[rows] = box[which].where(real.unsqueeze(-1), 0)
    valid[rows] = (box[:, 2] > 0)[which] & real
    packed[rows] = bits[which]
    return scores, labels, boxes, valid, packed


def _ranked_pairs(
    class_logits: Tensor, mask_logits: Tensor, top_k: int, thing_classes: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return query, class, probability and whether it counts, (k,) each, of the most probable queries and classes."""
    probability, finite = class_probabilities(class_logits, mask_logits)
    ranked = probability[:, :-1].where(finite.unsqueeze(-1), -1).flatten()
    ranked, index = ranked.sort(descending=True, stable=True)
    ranked, index = ranked[:top_k], index[:top_k]
    num_classes = probability.shape[1] - 1
    query, label = index // num_classes, index % num_classes
    real = ranked >= 0
    if thing_classes is not None:
        real &= class_table(tuple(thing_classes), num_classes, label.device)[label]
    return query, label, ranked, real


def _distinct(query: Tensor, num_queries: int) -> tuple[Tensor, Tensor]:
    """Return the queries (n,) that occur in (k,), ascending, and the place among them of each of the k.

    Where counting them would wait, n is the most that there can be, and other queries follow.
    """
    if _may_count(query.device):
        return query.unique(return_inverse=True)
    present = torch.zeros(num_queries, dtype=torch.int64, device=query.device).scatter(0, query, 1)
    first = present.sort(descending=True, stable=True).indices
    return first[: min(len(query), num_queries)], (present.cumsum(0) - 1)[query]


def _may_count(device: torch.device) -> bool:
    """Return whether shapes may follow from values, which costs nothing on the CPU and waits elsewhere."""
    return device.type == "cpu"


def _empty_result(
    class_logits: Tensor, size: Sequence[int], top_k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    height, width = size
    return (
        class_logits.new_zeros(top_k, dtype=torch.float32),
        class_logits.new_zeros(top_k, dtype=torch.int64),
        class_logits.new_zeros((top_k, 4), dtype=torch.float32),
        class_logits.new_zeros(top_k, dtype=torch.bool),
        class_logits.new_zeros((top_k, height, (width + 7) // 8), dtype=torch.uint8),
    )


@_instance_inference.register_fake
def _(
    class_logits: Tensor, mask_logits: Tensor, size: Sequence[int], top_k: int, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_result(class_logits, size, top_k)


def _logit(probability: float) -> float:
    """Invert the sigmoid; masks are compared as logits, which saves a sigmoid and cannot round to a tie."""
    if probability in (0.0, 1.0):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
