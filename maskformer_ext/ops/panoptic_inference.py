"""Panoptic segments of one image, streamed over rows of the output."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import NAMESPACE, native, register
from maskformer_ext.ops.support.predictions import check_prediction, class_probabilities
from maskformer_ext.ops.support.rows import Mapped, Rows, Stored, bands, first_argmax, resized

_OP = "panoptic_inference"


def panoptic_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    *,
    thing_classes: Iterable[int],
    object_mask_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
    mask_threshold: float = 0.5,
    input_size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    resize: str = "logits",
    area: str = "probability",
    paint: str = "won",
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Assign every pixel to the segment of the query with the largest class probability times mask probability.

    Queries count whose most probable class is not "no object" and has a probability above ``object_mask_threshold``.
    In query order, one becomes a segment if the pixels that it won are at least ``overlap_threshold`` of its own mask.
    Stuff joins an earlier segment of its class.

    Args:
        class_logits: (Q, K + 1) floating, the last column "no object".
        mask_logits: (Q, h, w) floating.
        size: output (H, W) in pixels.
        thing_classes: ids of the classes whose segments never merge; all others are stuff.
        object_mask_threshold: class probability that a query must exceed.
        overlap_threshold: least share of a query's mask that it must win.
        mask_threshold: least value of a pixel that belongs to a query's own mask.
        input_size: the padded network input (H, W); resized to before ``size``.
        crop: the valid (H, W) of the network input, cut out before the resize to ``size``.
        resize: "logits" resizes mask logits to ``size``; "probabilities" takes the sigmoid at ``input_size`` (at (h, w)
            without it), then resizes.
        area: "probability" compares mask probabilities with ``mask_threshold``. "weighted" does as Hugging Face
            transformers: it compares them times the class probability, and keeps a segment only above
            ``overlap_threshold``.
        paint: "won" gives a segment all pixels that its queries won. "own" does as EoMT: pixels that their winner's
            mask does not have are void. A segment must have a pixel, and is kept only above ``overlap_threshold``.

    Returns:
        segment_map: (H, W) int32 segment ids from 1, 0 = void.
        segments_info: per segment a dict of ``id``, ``category_id``, ``isthing``, ``score`` (class probability of its
            first query) and ``area`` (pixels of the map).

    Raises:
        TypeError: an input is not floating, or an option is of another type.
        ValueError: shapes, sizes or devices do not fit, a mode is unknown, a threshold is not finite, or the inputs are
            meta tensors.

    Source: MaskFormer (arXiv 2107.06278), section 3.4, general inference; EoMT (arXiv 2503.19108) for "own".
    """
    check_prediction(_OP, class_logits, mask_logits, size, input_size, crop)
    checks.check_choice(_OP, "resize", resize, ("logits", "probabilities"))
    checks.check_choice(_OP, "area", area, ("probability", "weighted"))
    checks.check_choice(_OP, "paint", paint, ("won", "own"))
    class_logits, mask_logits = class_logits.detach(), mask_logits.detach()
    checks.check_has_values(_OP, mask_logits)
    checks.check_finite(
        _OP,
        object_mask_threshold=object_mask_threshold,
        overlap_threshold=overlap_threshold,
        mask_threshold=mask_threshold,
    )
    things = checks.whole_numbers(_OP, "thing_classes", thing_classes)
    thresholds = (float(object_mask_threshold), float(overlap_threshold), float(mask_threshold))
    if native(_OP, class_logits, mask_logits):
        probability = _probabilities_of_kept(class_logits, mask_logits, thresholds[0])
        modes = (resize == "probabilities", area == "weighted", paint == "own")
        segment_map, table, _ = torch.ops.maskformer_ext.panoptic_inference(
            probability, mask_logits, size, things, *thresholds, input_size, crop, *modes
        )
    else:
        segment_map, table, _ = _panoptic_inference_reference(
            class_logits, mask_logits, size, things, *thresholds, input_size, crop, resize, area, paint
        )
    return segment_map, _segments_info(table.tolist())


def logit_segments(
    score: Tensor, mask_logits: Tensor, size: Sequence[int], *, mask_threshold: float, overlap_threshold: float
) -> tuple[Tensor, Tensor]:
    """Assign every pixel to the mask with the largest score times logit, as OneFormer does for instances.

    Args:
        score: (n,) of each mask.
        mask_logits: (n, h, w) floating, resized to `size`.
        size: output (H, W) in pixels.
        mask_threshold: least score times logit of a pixel that belongs to a mask.
        overlap_threshold: a mask is a segment where more than this share of its pixels is won.

    Returns:
        segment_map (H, W) int32, and the number (n,) int64 that each mask has there; 0 = none.
    """
    if native(_OP, score, mask_logits):
        probability = torch.stack((score.float(), torch.zeros_like(score, dtype=torch.float32)), 1)
        modes = (False, True, False, True)  # resized logits, weighted, all that is won is painted, no sigmoid
        segment_map, table, _ = torch.ops.maskformer_ext.panoptic_inference(
            probability, mask_logits, size, [0], -1.0, overlap_threshold, mask_threshold, None, None, *modes
        )
        return segment_map, table[:, 0].long()
    weighted = score.view(-1, 1, 1) * resized(Stored(mask_logits), size).rows(0, size[0])
    winner = first_argmax(weighted)[1]
    won = winner.flatten().bincount(minlength=len(score)).tolist()
    own = (weighted >= mask_threshold).flatten(1).count_nonzero(1).tolist()
    accepted = [share > overlap_threshold for share in _shares(won, own, single_precision=True)]
    ids = torch.tensor(_number_segments([0] * len(own), [True] * len(own), accepted), device=score.device)
    return ids.int()[winner], ids


def _probabilities_of_kept(class_logits: Tensor, mask_logits: Tensor, threshold: float) -> Tensor:
    """Return what `class_probabilities` does, but on a CPU rows of absent queries are 0 only where they would be kept.

    The masks of the others, most of all, are then not read.
    """
    if mask_logits.device.type != "cpu" or torch.compiler.is_compiling() or threshold < 0 or not mask_logits.numel():
        return class_probabilities(class_logits, mask_logits)[0]
    probability, _ = class_probabilities(class_logits, mask_logits.new_zeros((len(mask_logits), 1)))
    best = probability[:, :-1].amax(-1)
    for query in ((best > threshold) & (best >= probability[:, -1])).nonzero().flatten().tolist():
        lowest, highest = mask_logits[query].aminmax()
        if not (lowest.isfinite() and highest.isfinite()):
            probability[query] = 0
    return probability


def _segments_info(table: list[list[float]]) -> list[dict[str, Any]]:
    """Turn the table of queries into one entry per segment; queries of one stuff segment add up."""
    segments: dict[int, dict[str, Any]] = {}
    for segment_id, category, isthing, score, area in table:
        if segment_id == 0:
            continue
        entry = {
            "id": int(segment_id),
            "category_id": int(category),
            "isthing": bool(isthing),
            "score": score,
            "area": 0,
        }
        segments.setdefault(int(segment_id), entry)["area"] += int(area)
    return list(segments.values())


@torch.library.custom_op(
    f"{NAMESPACE}::panoptic_inference_reference",
    mutates_args=(),
    schema=(
        "(Tensor class_logits, Tensor mask_logits, SymInt[] size, int[] thing_classes, float object_mask_threshold, "
        "float overlap_threshold, float mask_threshold, SymInt[]? input_size, SymInt[]? crop, str resize, str area, "
        'str paint="won") '
        "-> (Tensor, Tensor, Tensor)"
    ),
)
def _panoptic_inference_reference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    thing_classes: Sequence[int],
    object_mask_threshold: float,
    overlap_threshold: float,
    mask_threshold: float,
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    resize: str,
    area: str,
    paint: str = "won",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the map (H, W) int32, the table (Q, 5) float64 and the number of segments () int64.

    A query's row of the table is id (0: no segment), category, isthing, score and the pixels that are painted.
    """
    probability, _ = class_probabilities(class_logits, mask_logits)
    score, category = probability.max(-1)
    kept = ((category < class_logits.shape[1] - 1) & (score > object_mask_threshold)).nonzero().flatten()
    table = torch.zeros((len(class_logits), 5), dtype=torch.float64, device=class_logits.device)
    if len(kept) == 0:
        empty = torch.zeros(tuple(size), dtype=torch.int32, device=class_logits.device)
        return empty, table, table.new_zeros((), dtype=torch.int64)

    weight = score[kept].view(-1, 1, 1)

    def to_probabilities(logits: Rows) -> Rows:
        return Mapped(logits, logits.channels, Tensor.sigmoid)

    masks: Rows = Stored(mask_logits[kept])
    if resize == "probabilities":
        masks = resized(masks, size, input_size=input_size, crop=crop, between=to_probabilities)
    else:
        masks = to_probabilities(resized(masks, size, input_size=input_size, crop=crop))

    winner = class_logits.new_empty(size, dtype=torch.int64)
    won = torch.zeros(len(kept), dtype=torch.int64, device=class_logits.device)
    own, painted = torch.zeros_like(won), torch.zeros_like(won)
    paints = torch.ones(tuple(size), dtype=torch.bool, device=class_logits.device)
    for begin, end, band in bands(masks):
        weighted = band * weight.to(band.dtype)
        winners = first_argmax(weighted)[1]
        has = (weighted if area == "weighted" else band) >= mask_threshold
        if paint == "own":
            paints[begin:end] = has.gather(0, winners[None])[0]
        winner[begin:end] = winners
        won += winners.flatten().bincount(minlength=len(kept))
        own += has.flatten(1).count_nonzero(1)
        painted += winners[paints[begin:end]].bincount(minlength=len(kept))

    things = set(thing_classes)
    isthing = [label in things for label in category[kept].tolist()]
    strict = area == "weighted" or paint == "own"
    shares = _shares(won.tolist(), own.tolist(), single_precision=strict)
    enough = [share > overlap_threshold if strict else share >= overlap_threshold for share in shares]
    accepted = [one and pixels > 0 for one, pixels in zip(enough, painted.tolist(), strict=True)]
    ids = torch.tensor(_number_segments(category[kept].tolist(), isthing, accepted), device=winner.device)
    columns = (ids, category[kept], torch.tensor(isthing, device=winner.device), score[kept], painted)
    table[kept] = torch.stack([column.double() for column in columns], 1)
    return ids.int()[winner].where(paints, 0), table, ids.max()


def _fake(class_values: Tensor, mask_logits: Tensor, size: Sequence[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    table = mask_logits.new_empty((mask_logits.shape[0], 5), dtype=torch.float64)
    return mask_logits.new_empty(size, dtype=torch.int32), table, table.new_empty((), dtype=torch.int64)


_panoptic_inference_reference.register_fake(_fake)
register(_OP, fake=_fake)


def _shares(won: list[int], own: list[int], *, single_precision: bool) -> list[float]:
    """Divide the pixels that each query won by its own; -1 where either is 0. transformers divides in float32."""
    dtype = np.float32 if single_precision else np.float64
    return [float(dtype(w) / dtype(o)) if w > 0 and o > 0 else -1.0 for w, o in zip(won, own, strict=True)]


def _number_segments(category: list[int], isthing: list[bool], accepted: list[bool]) -> list[int]:
    """Number the accepted queries from 1; stuff gets the number of its class where there is one already."""
    count = 0
    stuff: dict[int, int] = {}
    ids = []
    for label, thing, accept in zip(category, isthing, accepted, strict=True):
        if not accept:
            ids.append(0)
        elif not thing and label in stuff:
            ids.append(stuff[label])
        else:
            count += 1
            ids.append(count)
            if not thing:
                stuff[label] = count
    return ids
