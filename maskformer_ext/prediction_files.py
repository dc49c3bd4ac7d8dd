"""Write what a model sees in an image: an overlay, a map of ids and a description of the segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_json
from maskformer_ext.images import write_png
from maskformer_ext.inference import Instances, PanopticResult, SemanticResult
from maskformer_ext.visualize import PICTURED_SCORE, add_legend, draw_segments, segments_of

_OVERLAY_SIDE = 512
_COUNTED = {"semantic": "classes", "panoptic": "segments", "instance": "instances"}


def write_prediction(
    result: Any,
    pixels: Tensor,
    output: Path,
    name: str,
    *,
    source: str,
    task: str,
    info: DatasetInfo,
    names: bool = True,
    legend: bool = True,
    min_score: float = PICTURED_SCORE,
) -> str:
    """Write ``overlays/NAME.png``, ``ids/NAME.png`` and, last, ``json/NAME.json`` of one image.

    Args:
        result: what `segment` found in the image.
        pixels: (3, H, W) uint8, the image.
        output: the folder for the results.
        name: of the results, without ending; may hold folders.
        source: what the description calls the image.
        task: "semantic", "instance" or "panoptic".
        info: names, colours and things of the classes.
        names: write class names on the overlay.
        legend: put the classes below the overlay.
        min_score: overlay and ids show instances of at least this score; the description has all.

    Returns:
        In words what was found.
    """
    owners, labels = segments_of(result, min_score=min_score)
    image = pixels.permute(1, 2, 0).numpy()
    overlay = draw_segments(image, owners, labels, info, names=names, short_side=_OVERLAY_SIDE)
    shown = labels
    if isinstance(result, Instances):
        shown = result[result.scores >= min_score].labels.tolist()
    write_png(add_legend(overlay, shown, info) if legend else overlay, output / "overlays" / f"{name}.png")
    write_png(Image.fromarray(id_map(result, owners, info)), output / "ids" / f"{name}.png")
    segments = describe(result, owners, info)
    height, width = owners.shape
    described = {"image": source, "task": task, "height": height, "width": width, "segments": segments}
    file = description_file(output, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, described)
    unlikely = len(labels) - len(shown)
    more = f" ({unlikely} more below min_score={min_score:g})" if unlikely else ""
    return f"{_COUNTED[task]}: {len(segments) - unlikely}{more}"


def description_file(output: Path, name: str) -> Path:
    """Return where the description of an image goes; where it is, the image is done."""
    return output / "json" / f"{name}.json"


def id_map(result: Any, owners: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Return what ``ids/NAME.png`` holds.

    Args:
        result: of `segment`.
        owners: (H, W) index of the segment at each pixel, as `segments_of` gives it.
        info: the classes.

    Returns:
        (H, W): class ids, uint8 or uint16, for a semantic result; otherwise segment ids, uint16, 0 = none.

    Raises:
        UserError: if there are more segments than 16 bits can number.
    """
    if isinstance(result, SemanticResult):
        return result.class_map.cpu().numpy().astype(np.uint8 if info.num_classes <= 256 else np.uint16)
    ids = result.segment_map.cpu().numpy() if isinstance(result, PanopticResult) else owners + 1
    if ids.max(initial=0) > np.iinfo(np.uint16).max:
        raise UserError(f"{ids.max()} segments are more than a 16-bit PNG can number")
    return ids.astype(np.uint16)


def describe(result: Any, owners: np.ndarray, info: DatasetInfo) -> list[dict[str, Any]]:
    """Return what ``json/NAME.json`` says of each segment; ``id`` is its value in the map of ids.

    Args:
        result: of `segment`.
        owners: (H, W) index of the segment at each pixel, as `segments_of` gives it.
        info: names and things of the classes.
    """
    if isinstance(result, Instances):
        return [
            {
                "id": index + 1,
                **_category(label, info),
                "score": round(score, 6),
                "area": int(np.unpackbits(mask).sum()),
                "box": [int(side) for side in box],
                "rle": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
            for index, (label, score, mask, box, rle) in enumerate(
                zip(
                    result.labels.tolist(),
                    result.scores.tolist(),
                    result.packed_masks.cpu().numpy(),
                    result.boxes.tolist(),
                    result.rle(),
                    strict=True,
                )
            )
        ]
    boxes, areas = boxes_of(owners)
    if isinstance(result, SemanticResult):
        labels = sorted(set(result.class_map.unique().tolist()))
        return [
            {"id": label, **_category(label, info), "area": areas[index], "box": boxes[index]}
            for index, label in enumerate(labels)
        ]
    return [
        {
            "id": segment["id"],
            **_category(segment["category_id"], info),
            "score": round(float(segment["score"]), 6),
            "area": areas[index],
            "box": boxes[index],
        }
        for index, segment in enumerate(result.segments_info)
    ]


def _category(label: int, info: DatasetInfo) -> dict[str, Any]:
    return {"category_id": label, "category": info.classes[label], "isthing": label in info.thing_classes}


def boxes_of(owners: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """Return the box (x0, y0, x1, y1, half-open) and the area of each segment, in one pass.

    Args:
        owners: (H, W) integers, the index of the segment at each pixel, -1 = none; every index occurs.
    """
    rows, columns = np.nonzero(owners >= 0)
    index = owners[rows, columns]
    count = int(index.max(initial=-1)) + 1
    low = np.full((2, count), np.iinfo(np.int64).max)
    high = np.zeros((2, count), dtype=np.int64)
    for axis, positions in enumerate((columns, rows)):
        np.minimum.at(low[axis], index, positions)
        np.maximum.at(high[axis], index, positions + 1)
    boxes = [[int(low[0, i]), int(low[1, i]), int(high[0, i]), int(high[1, i])] for i in range(count)]
    return boxes, np.bincount(index, minlength=count).tolist()
