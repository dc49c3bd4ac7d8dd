"""Write what a model sees in an image: an overlay, a map of ids and a description of the segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import write_json
from maskformer_ext.inference import Instances, PanopticResult, SemanticResult
from maskformer_ext.inference.results import PICTURED_SCORE
from maskformer_ext.media.images import write_png
from maskformer_ext.pictures.segment_maps import boxes_and_areas, index_of, instance_owners
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_image, resize_map, shown_size
from maskformer_ext.prediction.findings import summarize

_OVERLAY_SIDE = 512  # pixels, to which the shorter side of small images is enlarged
_WIDEST_MAP = np.iinfo(np.uint16).max
_BITS_OF_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)


def overlay_ground(rgb: np.ndarray, overlay_size: int = LONG_SIDE) -> np.ndarray:
    """Bring an image (H, W, 3) uint8 to the size at which its overlay is drawn.

    Args:
        rgb: the image, or what this function made of it.
        overlay_size: longer side of the overlay in pixels at most; 0 = at least the image's size.
    """
    return resize_image(rgb, _overlay_shape(rgb.shape[0], rgb.shape[1], overlay_size))


def _overlay_shape(height: int, width: int, overlay_size: int) -> tuple[int, int]:
    return shown_size(height, width, short_side=_OVERLAY_SIDE, long_side=overlay_size)


def write_prediction(
    result: Any,
    ground: np.ndarray | Tensor,
    output: Path,
    name: str,
    *,
    source: str,
    task: str,
    info: DatasetInfo,
    names: bool = True,
    legend: bool = True,
    min_score: float = PICTURED_SCORE,
    overlay_size: int = LONG_SIDE,
) -> str:
    """Write ``overlays/NAME.png``, ``ids/NAME.png`` and, last, ``json/NAME.json`` of one image.

    Args:
        result: what `segment` found in the image.
        ground: the image, (3, H, W) uint8 as a tensor or (H, W, 3) uint8 as an array, or what `overlay_ground` made.
        output: the folder for the results.
        name: of the results, without ending; may hold folders.
        source: what the description calls the image.
        task: "semantic", "instance" or "panoptic".
        info: names, colours and things of the classes.
        names: write class names on the overlay.
        legend: put the classes below the overlay.
        min_score: overlay and ids show instances of at least this score; the description has all.
        overlay_size: longer side of the overlay in pixels at most, without the legend, as in `overlay_ground`.

    Returns:
        In a few words what was found, as `summarize` says it.

    Raises:
        UserError: if a file cannot be written, or there are more segments than a map of ids can number.
    """
    ids = id_map(result, info, min_score=min_score)
    segments = describe(result, ids, info)
    labels = shown = [segment["category_id"] for segment in segments]
    if isinstance(result, Instances):
        shown = result[result.scores >= min_score].labels.tolist()
    height, width = ids.shape
    size = _overlay_shape(height, width, overlay_size)
    owners = index_of(resize_map(ids, size), [segment["id"] for segment in segments])
    picture = ground.permute(1, 2, 0).cpu().numpy() if isinstance(ground, Tensor) else ground
    overlay = draw_segments(resize_image(picture, size), owners, labels, info, names=names)
    write_png(add_legend(overlay, shown, info) if legend else overlay, output / "overlays" / f"{name}.png")
    write_png(Image.fromarray(ids), output / "ids" / f"{name}.png")
    described = {"image": printable(source), "task": task, "height": height, "width": width, "segments": segments}
    write_json(description_file(output, name), described)
    return summarize(segments, task, height * width, min_score)


def description_file(output: Path, name: str) -> Path:
    """Return where the description of an image goes; where it is, the image is done."""
    return output / "json" / f"{name}.json"


def id_map(result: Any, info: DatasetInfo, *, min_score: float = PICTURED_SCORE) -> np.ndarray:
    """Return what ``ids/NAME.png`` holds.

    Args:
        result: of `segment`.
        info: the classes.
        min_score: instances below it own no pixel.

    Returns:
        (H, W): class ids, uint8 or uint16, for a semantic result; otherwise segment ids, uint16, 0 = none.

    Raises:
        UserError: if there are more segments than 16 bits can number.
    """
    if isinstance(result, SemanticResult):
        return result.class_map.cpu().numpy().astype(np.uint8 if info.num_classes <= 256 else np.uint16)
    ids = result.segment_map.cpu().numpy() if isinstance(result, PanopticResult) else instance_owners(result, min_score)
    if ids.max(initial=0) > _WIDEST_MAP:
        raise UserError(f"{ids.max()} segments are more than a 16-bit PNG can number")
    return ids.astype(np.uint16, copy=False)


def describe(result: Any, ids: np.ndarray, info: DatasetInfo) -> list[dict[str, Any]]:
    """Return what ``json/NAME.json`` says of each segment; ``id`` is its value in the map of ids.

    Args:
        result: of `segment`.
        ids: (H, W), as `id_map` gives it.
        info: names and things of the classes.
    """
    if isinstance(result, Instances):
        return _describe_instances(result, info)
    ids_of = [] if isinstance(result, SemanticResult) else [segment["id"] for segment in result.segments_info]
    boxes, areas = boxes_and_areas(ids, max(ids_of, default=0) + 1)
    if isinstance(result, SemanticResult):
        return [
            {"id": label, **_category(label, info), "area": int(areas[label]), "box": boxes[label].tolist()}
            for label in np.flatnonzero(areas).tolist()
        ]
    return [
        {
            "id": segment["id"],
            **_category(segment["category_id"], info),
            "score": round(float(segment["score"]), 6),
            "area": int(areas[segment["id"]]),
            "box": boxes[segment["id"]].tolist(),
        }
        for segment in result.segments_info
    ]


def _describe_instances(result: Instances, info: DatasetInfo) -> list[dict[str, Any]]:
    labels, scores, boxes = (values.tolist() for values in (result.labels, result.scores, result.boxes.long()))
    masks = result.packed_masks.cpu().numpy()
    areas = [_BITS_OF_BYTE[mask].sum(dtype=np.int64) for mask in masks]
    return [
        {
            "id": index + 1,
            **_category(label, info),
            "score": round(score, 6),
            "area": int(area),
            "box": box,
            "rle": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        }
        for index, (label, score, area, box, rle) in enumerate(
            zip(labels, scores, areas, boxes, result.rle(), strict=True)
        )
    ]


def _category(label: int, info: DatasetInfo) -> dict[str, Any]:
    return {"category_id": label, "category": info.classes[label], "isthing": label in info.thing_classes}
