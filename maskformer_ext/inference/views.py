"""Test-time augmentation: average the class scores of an image over several sizes, plain and mirrored."""

from __future__ import annotations

from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference.large_images import tile_scores
from maskformer_ext.inference.network import batch_of, run_network
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.results import Result, SemanticResult
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.media.images import resize_shortest_edge


def view_limits(settings: InferenceConfig) -> list[tuple[int, int]]:
    """Return shortest and longest side of each view: of ``tta_min_sizes``, or without them of plain inference.

    Views that the longest side makes equal all count, as in the original.
    """
    if settings.tta_min_sizes:
        return [(shortest, settings.tta_max_size) for shortest in settings.tta_min_sizes]
    return [(settings.min_size, 0 if settings.tile else settings.max_size)]


def segment_views(
    model: nn.Module, pixels: Tensor, size: tuple[int, int], reduce: Reducer, batch_size: int, laps: Laps
) -> dict[str, Result]:
    """Segment one image by the average of its views' class scores.

    The scores of every view are made at the size of the result, mirrored back on the way, and added to one tensor.
    Views larger than ``tile`` are cut into tiles.

    Args:
        model: the network.
        pixels: (3, H, W) uint8, as stored.
        size: height and width of the result.
        reduce: ``reduce.settings`` names the views.
        batch_size: 2 or more lets a view and its mirror image share one run of the network.
        laps: the times before it.

    Returns:
        The semantic result.

    Raises:
        ValueError: if a task other than "semantic" is wanted: segments of different views cannot be averaged.
    """
    settings = reduce.settings
    if reduce.tasks != ("semantic",):
        raise ValueError(
            'segment: test-time augmentation averages class scores: task must be "semantic", '
            f"got {', '.join(reduce.tasks)}"
        )
    flips = (False, True) if settings.tta_flip else (False,)
    limits = view_limits(settings)
    weight = 1.0 / (len(limits) * len(flips))
    begin = laps.mark()
    total: Tensor | None = None
    for shortest, longest in limits:
        view = resize_shortest_edge(pixels, shortest, longest)
        for start in range(0, len(flips), batch_size):
            chosen = flips[start : start + batch_size]
            images = [view.flip(-1) if flip else view for flip in chosen]
            if settings.tile and max(view.shape[-2:]) > settings.tile:
                for image, flip in zip(images, chosen, strict=True):
                    scores = tile_scores(model, image, size, reduce, batch_size, laps)
                    scores = (scores.flip(-1) if flip else scores).mul_(weight)
                    total = scores if total is None else total.add_(scores)
                continue
            outputs = run_network(model, batch_of(images), [laps], precision=settings.precision)
            for output, flip in zip(outputs, chosen, strict=True):
                total = reduce.scores(output, size, flip=flip, out=total, weight=weight)
    assert total is not None
    result = SemanticResult(total.argmax(0))
    laps.add_around_network(begin)
    return {"semantic": result.with_context(times=laps)}
