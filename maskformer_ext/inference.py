"""From an image to its segmentation: `segment` resizes, normalises, pads, runs the model and reduces its queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.images import resize_shortest_edge, to_pixels
from maskformer_ext.ops.instance_inference import Instances, instance_inference
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.semantic_inference import semantic_inference, semantic_scores

TASKS = ("semantic", "instance", "panoptic")


@dataclass(frozen=True)
class SemanticResult:
    """The class of every pixel.

    Attributes:
        class_map: (H, W) int64 class ids.
    """

    class_map: Tensor


@dataclass(frozen=True)
class PanopticResult:
    """The segment of every pixel.

    Attributes:
        segment_map: (H, W) int32 segment ids from 1, 0 = void.
        segments_info: for each segment ``id``, ``category_id``, ``isthing``, ``score`` and ``area`` in pixels.
    """

    segment_map: Tensor
    segments_info: list[dict[str, Any]]


Result = SemanticResult | PanopticResult | Instances


def segment(
    model: nn.Module,
    image: Any,
    *,
    task: str = "semantic",
    size: tuple[int, int] | None = None,
    thing_classes: Collection[int] | None = None,
    config: InferenceConfig | None = None,
    batch_size: int = 1,
    **options: Any,
) -> Any:
    """Segment an image, or each image of a list.

    Args:
        model: a ``MaskFormer`` or ``PerPixelBaseline``; it is run in evaluation mode, on the device that it is on.
        image: a PIL image, a path, an array (H, W, 3) or (H, W) uint8, a tensor (3, H, W) uint8, or a list of these.
        task: "semantic", "instance" or "panoptic".
        size: height and width of the result; None: the size of each image.
        thing_classes: ids of the classes whose instances are told apart; None: all classes.
        config: the recipe's options for inference; None: their defaults.
        batch_size: how many images (or tiles) of equal size go through the network at once.
        options: single fields of ``InferenceConfig`` that replace those of ``config``, as ``tile=512``.

    Returns:
        ``SemanticResult``, ``Instances`` or ``PanopticResult``; for a list, a list of them. A result does not depend on
        the other images of the list.

    Raises:
        ValueError: if ``task`` is unknown or the model cannot do it, or an image is of another form.
        TypeError: if an option is not a field of ``InferenceConfig``.
        UserError: if a path is not a readable image.
    """
    several = isinstance(image, list | tuple)
    images = image if several else [image]
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
    found = [result[task] for result in results]
    return found if several else found[0]


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
) -> list[dict[str, Result]]:
    """Segment images for several tasks with one run of the network each; arguments as `segment`'s.

    Returns:
        For each image a dict from task to result.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ValueError(f"segment: task must be one of {', '.join(TASKS)}, got {unknown[0]!r}")
    settings = replace(config or InferenceConfig(), **options)
    was_training = model.training
    model.eval()
    try:
        return _segment_tasks(model, images, tasks, size, thing_classes, settings, batch_size)
    finally:
        model.train(was_training)


def _segment_tasks(model, images, tasks, size, thing_classes, settings, batch_size) -> list[dict[str, Result]]:
    from maskformer_ext.tiling import segment_tiles

    results: list[dict[str, Result]] = []
    pending: list[tuple[Tensor, tuple[int, int]]] = []  # network inputs of one size that wait to be run together
    reduce = Reducer(tasks, thing_classes, settings)

    def flush() -> None:
        if pending:
            sizes = [final for _, final in pending]
            outputs = run_network(model, torch.stack([pixels for pixels, _ in pending]))
            results.extend(reduce(output, final) for output, final in zip(outputs, sizes, strict=True))
            pending.clear()

    for image in images:
        pixels = to_pixels(image)
        final = size or (pixels.shape[-2], pixels.shape[-1])
        resized = resize_shortest_edge(pixels, settings.min_size, settings.max_size if not settings.tile else 0)
        if settings.tile and max(resized.shape[-2:]) > settings.tile:
            flush()
            results.append(segment_tiles(model, resized, final, reduce, batch_size))
            continue
        if pending and pending[0][0].shape != resized.shape:
            flush()
        pending.append((resized, final))
        if len(pending) == batch_size:
            flush()
    flush()
    return results


@dataclass(frozen=True)
class QueryOutput:
    """What the network says about one image.

    Attributes:
        class_logits: (Q, K + 1), or None for a per-pixel baseline.
        mask_logits: (Q, h, w); for a per-pixel baseline the class logits (K, h, w).
        input_size: height and width of the padded network input.
        crop: height and width of the image in it.
    """

    class_logits: Tensor | None
    mask_logits: Tensor
    input_size: tuple[int, int]
    crop: tuple[int, int]


def run_network(model: nn.Module, pixels: Tensor) -> list[QueryOutput]:
    """Normalise, pad and run the model on images of one size.

    Args:
        model: its ``config`` gives mean, standard deviation and the multiple to pad to.
        pixels: (B, 3, H, W) uint8.

    Returns:
        One output an image.
    """
    device = next(model.parameters()).device
    config = model.config
    mean = torch.tensor(config.pixel_mean, device=device).view(3, 1, 1)
    std = torch.tensor(config.pixel_std, device=device).view(3, 1, 1)
    images = (pixels.to(device).float() - mean) / std
    crop = (images.shape[-2], images.shape[-1])
    multiple = max(1, config.size_divisibility)
    bottom, right = -crop[0] % multiple, -crop[1] % multiple
    images = F.pad(images, (0, right, 0, bottom))  # zeros after normalisation, as in training
    input_size = (crop[0] + bottom, crop[1] + right)
    output = model(images)
    if hasattr(output, "class_logits"):
        pairs = zip(output.class_logits[-1], output.mask_logits(), strict=True)
    else:
        pairs = ((None, logits) for logits in output.logits)
    return [QueryOutput(class_logits, mask_logits, input_size, crop) for class_logits, mask_logits in pairs]


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

    def __call__(self, output: QueryOutput, size: tuple[int, int]) -> dict[str, Result]:
        """Return the result of each task at ``size``."""
        return {task: getattr(self, task)(output, size) for task in self.tasks}

    def things(self, output: QueryOutput) -> tuple[int, ...]:
        """Return the ids of the thing classes."""
        _require_queries(output)
        return tuple(range(output.class_logits.shape[-1] - 1)) if self.thing_classes is None else self.thing_classes

    def semantic(self, output: QueryOutput, size: tuple[int, int]) -> SemanticResult:
        """Return the most probable class of every pixel."""
        if output.class_logits is None:
            return SemanticResult(_per_pixel_logits(output, size).argmax(0))
        placement = {"input_size": output.input_size, "crop": output.crop, "resize": self.settings.resize}
        return SemanticResult(semantic_inference(output.class_logits, output.mask_logits, size, **placement))

    def scores(self, output: QueryOutput, size: tuple[int, int]) -> Tensor:
        """Return the scores (K, H, W) float32 that `semantic` takes the maximum of."""
        if output.class_logits is None:
            return _per_pixel_logits(output, size).softmax(0)
        placement = {"input_size": output.input_size, "crop": output.crop, "resize": self.settings.resize}
        return semantic_scores(output.class_logits, output.mask_logits, size, **placement)

    def panoptic(self, output: QueryOutput, size: tuple[int, int]) -> PanopticResult:
        """Return the segments of the image; each pixel belongs to one at most."""
        segment_map, segments_info = panoptic_inference(
            output.class_logits,
            output.mask_logits,
            size,
            thing_classes=self.things(output),
            object_mask_threshold=self.settings.object_mask_threshold,
            overlap_threshold=self.settings.overlap_threshold,
            input_size=output.input_size,
            crop=output.crop,
        )
        return PanopticResult(segment_map, segments_info)

    def instance(self, output: QueryOutput, size: tuple[int, int]) -> Instances:
        """Return the instances of thing classes; they may overlap."""
        return instance_inference(
            output.class_logits,
            output.mask_logits,
            size,
            top_k=self.settings.top_k,
            thing_classes=self.things(output),
            mask_threshold=self.settings.mask_threshold,
            input_size=output.input_size,
            crop=output.crop,
        )


def _require_queries(output: QueryOutput) -> None:
    if output.class_logits is None:
        raise ValueError('segment: task must be "semantic" for a per-pixel baseline, which has no queries')


def _per_pixel_logits(output: QueryOutput, size: tuple[int, int]) -> Tensor:
    """Bring (K, h, w) class logits to the network input by their stride, crop, resize to the result: (K, H, W)."""
    stride = -(-output.input_size[0] // output.mask_logits.shape[-2])
    logits = F.interpolate(output.mask_logits[None].float(), scale_factor=stride, mode="bilinear", align_corners=False)
    logits = logits[..., : output.crop[0], : output.crop[1]]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
