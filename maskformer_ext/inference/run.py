"""From an image to its segmentation: `segment` resizes, normalises, pads, runs the model and reduces its queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.large_images import segment_tiles
from maskformer_ext.inference.network import batch_of, device_of, run_network
from maskformer_ext.inference.programs.exported_model import ExportedModel
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.results.context import name_of
from maskformer_ext.inference.results.kinds import numbered
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.inference.settings import settings_of, things_of
from maskformer_ext.inference.views import segment_views
from maskformer_ext.inference.weight_warnings import warn_about_weights
from maskformer_ext.media.images import resize_shortest_edge, to_pixels


def segment(
    model: nn.Module,
    image: Any,
    *,
    task: str = "semantic",
    size: tuple[int, int] | None = None,
    thing_classes: Collection[int] | None = None,
    config: InferenceConfig | None = None,
    batch_size: int = 1,
    info: DatasetInfo | None = None,
    **options: Any,
) -> Any:
    """Segment an image, or each image of a list.

    Args:
        model: a ``MaskFormer``, ``PerPixelBaseline`` or ``ExportedModel``; it is run in evaluation mode, on the device
            that it is on.
        image: a PIL image, a path, a uint8 array (H, W, 3) or (H, W), a uint8 tensor (3, H, W), or a list.
        task: "semantic", "instance" or "panoptic". `config.tasks.default_task` returns what a model was trained for.
            A model for instances knows instances only.
        size: height and width of the result; None: the size of each image.
        thing_classes: ids of the classes whose instances are told apart; None: the things of the classes below, or all
            classes where these name no things.
        config: options for inference; None: those of ``model.recipe``, or the defaults where the model has none.
        batch_size: how many images (or tiles) of equal size go through the network at once.
        info: names and colours of the classes, for what results show and write; None: ``model.dataset_info``, or
            numbered classes.
        options: single fields of ``InferenceConfig`` that replace those of ``config``, as ``tile=512``.

    Returns:
        ``SemanticResult``, ``InstanceResult`` or ``PanopticResult``; for a list, a list of them. A result does not
        depend on the other images of the list. It remembers the image, without a copy, to draw on it.

    Raises:
        ValueError: if ``task`` is unknown or the model cannot do it, or an image is of another form, or ``info`` has
            another number of classes.
        TypeError: if ``config`` is no ``InferenceConfig``, or an option is not a field of it.
        UserError: if a path is not a readable image.

    Warns:
        UserWarning: once for a model whose weights are untrained or not finite.
    """
    if not isinstance(model, ExportedModel):  # whose weights were looked at before they were written
        warn_about_weights(model)
    several = isinstance(image, list | tuple)
    images = image if several else [image]
    thing_classes = things_of(info or getattr(model, "dataset_info", None)) if thing_classes is None else thing_classes
    classes = _classes(model, info, task, thing_classes)
    results = segment_tasks(
        model,
        images,
        [task],
        size=size,
        thing_classes=thing_classes,
        config=config,
        batch_size=batch_size,
        **options,
    )
    found = [
        result[task].with_context(info=classes, image=image, name=name_of(image, index if several else None))
        for index, (image, result) in enumerate(zip(images, results, strict=True))
    ]
    return found if several else found[0]


def _classes(
    model: nn.Module, info: DatasetInfo | None, task: str, thing_classes: Collection[int] | None
) -> DatasetInfo | None:
    """Return the classes that results show, whose things are those that the task tells apart."""
    count = getattr(model, "num_classes", None)
    if info is not None and count is not None and info.num_classes != count:
        raise ValueError(f"segment: info must name the {count} classes of the model, got {info.num_classes}")
    info = info or getattr(model, "dataset_info", None) or (None if count is None else numbered(count))
    if info is None or task == "semantic":
        return info
    things = tuple(range(info.num_classes)) if thing_classes is None else tuple(sorted(thing_classes))
    if things == info.thing_classes:
        return info
    changed = replace(info, thing_classes=things)
    return changed if info.file_ids is None else changed.with_file_ids(info.file_ids)


@torch.inference_mode()
def segment_tasks(
    model: nn.Module,
    images: Sequence[Any],
    tasks: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    thing_classes: Collection[int] | None = None,
    config: InferenceConfig | None = None,
    batch_size: int = 1,
    **options: Any,
) -> list[dict[str, Any]]:
    """Segment images for several tasks with one run of the network each; arguments as `segment`'s.

    Returns:
        For each image a dict from task to result.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"segment: task must be one of {', '.join(TASKS)}, got {unknown[0]!r}")
    things = things_of(getattr(model, "dataset_info", None)) if thing_classes is None else thing_classes
    reduce = Reducer(tasks, things, settings_of(model, config, options))
    was_training = model.training
    model.eval()
    try:
        return _segment_tasks(model, images, reduce, size, batch_size)
    finally:
        model.train(was_training)


def _segment_tasks(
    model: nn.Module,
    images: Sequence[Any],
    reduce: Reducer,
    size: tuple[int, int] | None,
    batch_size: int,
) -> list[dict[str, Any]]:
    settings = reduce.settings
    device = device_of(model)
    results: list[dict[str, Any]] = []
    pending: list[tuple[Tensor, tuple[int, int], Laps]] = []  # network inputs of one size that wait to be run together

    def flush() -> None:
        if pending:
            inputs, sizes, laps = zip(*pending, strict=True)
            outputs = run_network(model, batch_of(inputs), laps, precision=settings.precision)
            results.extend(map(reduce, outputs, sizes, laps))
            pending.clear()

    for image in images:
        laps = Laps(device)
        begin = laps.mark()
        pixels = to_pixels(image)
        final = size or (pixels.shape[-2], pixels.shape[-1])
        if settings.tta:
            laps.add("preprocessing", begin)
            results.append(segment_views(model, pixels, final, reduce, batch_size, laps))
            continue
        resized = resize_shortest_edge(pixels, settings.min_size, settings.max_size if not settings.tile else 0)
        laps.add("preprocessing", begin)
        if settings.tile and max(resized.shape[-2:]) > settings.tile:
            flush()
            results.append(segment_tiles(model, resized, final, reduce, batch_size, laps))
            continue
        if pending and pending[0][0].shape != resized.shape:
            flush()
        pending.append((resized, final, laps))
        if len(pending) == batch_size:
            flush()
    flush()
    return results
