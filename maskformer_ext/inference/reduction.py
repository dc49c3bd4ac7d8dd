"""Reduce the network's output for an image to class maps, segments and instances."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference.query_output import QueryOutput, require_queries
from maskformer_ext.inference.results import InstanceResult, PanopticResult, Result, SemanticResult
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.ops.instance_inference import instance_inference
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.semantic_inference import semantic_inference, semantic_scores
from maskformer_ext.ops.support.rows import Stored, bands, first_argmax, resized
from maskformer_ext.ops.support.strided_logits import enlarge, stride_of

_ROWS = 256  # of a class map that are looked up at a time
_MOST_LOGITS = 1 << 26  # of a per-pixel baseline that are stored at the size of the result


class Reducer:
    """Turn the network's output for one image into results.

    Args:
        tasks: which results.
        thing_classes: ids of thing classes; None: all classes.
        settings: thresholds and the order of operations.
    """

    def __init__(self, tasks: Sequence[str], thing_classes: Collection[int] | None, settings: InferenceConfig) -> None:
        self.tasks = tuple(tasks)
        self.settings = settings
        self.thing_classes = None if thing_classes is None else tuple(sorted(thing_classes))

    def __call__(self, output: QueryOutput, size: tuple[int, int], laps: Laps) -> dict[str, Result]:
        """Return the result of each task at ``size``; ``laps`` has the times before it."""
        results: dict[str, Any] = {}
        for task in self.tasks:
            own = laps.copy()
            begin = own.mark()
            result = getattr(self, task)(output, size)
            own.add("reduction", begin)
            results[task] = result.with_context(times=own)
        return results

    def things(self, output: QueryOutput) -> tuple[int, ...]:
        """Return the ids of the thing classes."""
        count = require_queries(output).shape[-1] - 1
        return tuple(range(count)) if self.thing_classes is None else self.thing_classes

    def semantic(self, output: QueryOutput, size: tuple[int, int]) -> SemanticResult:
        """Return the most probable class of every pixel."""
        if output.class_logits is None:
            return SemanticResult(_per_pixel_classes(output, size))
        best_query = self.settings.semantic == "argmax"
        class_logits, label = _classes_of_queries(output.class_logits) if best_query else (output.class_logits, None)
        class_map = semantic_inference(
            class_logits,
            output.mask_logits,
            size,
            input_size=output.input_size,
            crop=output.crop,
            resize=self.settings.resize,
        )
        if label is not None:
            for rows in class_map.split(_ROWS):  # in place: a second map of an image's size would be large
                rows.copy_(label[rows])
        return SemanticResult(class_map)

    def scores(
        self,
        output: QueryOutput,
        size: tuple[int, int],
        *,
        flip: bool = False,
        out: Tensor | None = None,
        weight: float = 1.0,
    ) -> Tensor:
        """Return the scores (K, H, W) float32 that `semantic` takes the maximum of.

        Args:
            output: of the network; for a per-pixel baseline the scores are its logits.
            size: (H, W).
            flip: the output is of the mirrored image; mirror the scores back.
            out: (K, H, W) float32 that the scores are added to; None: a new tensor.
            weight: factor of the scores.

        Raises:
            ValueError: ``semantic`` is "argmax", which chooses a query and has no scores that could be averaged.
        """
        if self.settings.semantic == "argmax":
            raise ValueError(
                "segment: semantic must be sum where class scores of tiles or views are averaged, got 'argmax'"
            )
        if output.class_logits is None:
            logits = _per_pixel_logits(output, size)
            logits = logits.flip(-1) if flip else logits
            return logits * weight if out is None else out.add_(logits, alpha=weight)
        return semantic_scores(
            output.class_logits,
            output.mask_logits,
            size,
            input_size=output.input_size,
            crop=output.crop,
            flip=flip,
            resize=self.settings.resize,
            out=out,
            weight=weight,
        )

    def panoptic(self, output: QueryOutput, size: tuple[int, int]) -> PanopticResult:
        """Return the segments of the image; each pixel belongs to one at most."""
        segment_map, segments_info = panoptic_inference(
            require_queries(output),
            output.mask_logits,
            size,
            thing_classes=self.things(output),
            object_mask_threshold=self.settings.object_mask_threshold,
            overlap_threshold=self.settings.overlap_threshold,
            input_size=output.input_size,
            crop=output.crop,
        )
        return PanopticResult(segment_map, segments_info)

    def instance(self, output: QueryOutput, size: tuple[int, int]) -> InstanceResult:
        """Return the instances of thing classes; they may overlap."""
        found = instance_inference(
            require_queries(output),
            output.mask_logits,
            size,
            top_k=self.settings.top_k,
            thing_classes=self.things(output),
            mask_threshold=self.settings.mask_threshold,
            input_size=output.input_size,
            crop=output.crop,
        )
        return InstanceResult.of(found)


def _classes_of_queries(class_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Make every query a class of its own, so that the best class of a pixel is its best query.

    A query counts with the probability of its most probable class. Where that is "no object" it does not count, unless
    it is so for all queries.

    Args:
        class_logits: (Q, K + 1).

    Returns:
        Class logits (Q, Q + 1), whose softmax holds that probability on the diagonal, and the class (Q,) of each query.

    Source: MaskFormer (arXiv 2107.06278), section 3.4, "general inference".
    """
    probability = class_logits.float().softmax(-1)
    best, label = probability[:, :-1].max(-1)
    is_object = ~(best < probability[:, -1])  # true for NaN: such a query stays one and is left out later
    best = torch.where(is_object | ~is_object.any(), best, 0.0)
    own_class = best.new_full((len(best), len(best)), -torch.inf).diagonal_scatter(best.log())
    return torch.cat([own_class, torch.log1p(-best).unsqueeze(1)], dim=1), label


def _per_pixel_logits(output: QueryOutput, size: tuple[int, int]) -> Tensor:
    """Bring (K, h, w) class logits to the network input by their stride, crop, resize to the result: (K, H, W)."""
    logits = enlarge(output.mask_logits[None], output.input_size[0])[..., : output.crop[0], : output.crop[1]]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]


def _per_pixel_classes(output: QueryOutput, size: tuple[int, int]) -> Tensor:
    """Return the class (H, W) of the largest logit; for large results the logits exist for a band of rows at a time."""
    if output.mask_logits.shape[0] * size[0] * size[1] <= _MOST_LOGITS:
        return _per_pixel_logits(output, size).argmax(0)
    logits, stride = output.mask_logits.float(), stride_of(output.mask_logits, output.input_size[0])
    height, width = logits.shape[-2:]
    possible = _possible_classes(logits)
    classes = torch.empty(size, dtype=torch.int64, device=logits.device)
    step = max(1, 2 * size[0] // height)
    for begin in range(0, size[0], step):
        end = min(begin + step, size[0])
        first, last = (int(((row + 0.5) * output.crop[0] / size[0]) / stride) for row in (begin, end - 1))
        some = possible[:, max(0, first - 1) : last + 2].any(1).nonzero().squeeze(1)
        stored = Stored(logits[some])
        rows = resized(stored, size, input_size=(height * stride, width * stride), crop=output.crop)
        for upper, lower, band in bands(rows, begin, end):
            classes[upper:lower] = some[first_argmax(band)[1]]
    return classes


def _possible_classes(logits: Tensor) -> Tensor:
    """Return which classes may win near each row of (K, h, w) class logits, (K, h) bool.

    What lies between logits is a mean of those of three by three cells. A class whose largest one is below the smallest
    one of another class wins nowhere between them: most of many classes need not be looked at.
    """
    largest = F.max_pool2d(logits, 3, stride=1, padding=1)
    smallest = -F.max_pool2d(-logits, 3, stride=1, padding=1)
    rounding = 1e-5 * logits.abs().amax()
    return ~(largest < smallest.amax(0) - rounding).all(-1)  # true for NaN, which stays as it was
