"""Results in the formats of others: COCO, COCO panoptic, YOLO, and the package supervision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_text
from maskformer_ext.inference.results.context import name_among
from maskformer_ext.inference.results.outlines import joined_polygon, mask_polygons

if TYPE_CHECKING:
    from maskformer_ext.inference.results.base import Result
    from maskformer_ext.inference.results.kinds import PanopticResult

CategoryIds = Sequence[int | str] | Mapping[int, int | str]


def coco_annotations(
    result: Result, image_id: int | str, category_ids: CategoryIds | None, min_score: float
) -> list[dict[str, Any]]:
    """Return annotations of COCO's format; arguments and errors are those of `Result.to_coco`."""
    ids = _category_ids("to_coco", category_ids, result.info)
    annotations: list[dict[str, Any]] = []
    for index, segment in _likely(result, min_score):
        annotation = {
            "id": len(annotations) + 1,
            "image_id": image_id,
            "category_id": _category_id("to_coco", ids, segment),
            "segmentation": result.rle_of(index),
            "area": segment["area"],
            "bbox": _width_and_height(segment["box"]),
            "iscrowd": 0,
        }
        if "score" in segment:
            annotation["score"] = segment["score"]
        annotations.append(annotation)
    return annotations


def coco_panoptic(
    result: PanopticResult,
    file_name: str | None,
    *,
    image_id: int | str = 0,
    category_ids: CategoryIds | None = None,
) -> tuple[Image.Image, dict[str, Any]]:
    """Return the picture and the entry of COCO's panoptic format, as `PanopticResult.to_coco_panoptic` does."""
    ids = _category_ids("to_coco_panoptic", category_ids, result.info)
    segments = [
        {
            "id": segment["id"],
            "category_id": _category_id("to_coco_panoptic", ids, segment),
            "area": segment["area"],
            "bbox": _width_and_height(segment["box"]),
            "iscrowd": 0,
        }
        for segment in result.describe_briefly()
    ]
    entry = {
        "image_id": image_id,
        "file_name": f"{result.context.name}.png" if file_name is None else file_name,
        "segments_info": segments,
    }
    return panoptic_picture(result.segment_map.cpu().numpy()), entry


def panoptic_picture(ids: np.ndarray) -> Image.Image:
    """Return segment ids (H, W) as COCO's panoptic PNGs hold them: R + 256 G + 256 * 256 B."""
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    return Image.fromarray(colors)


def yolo_lines(result: Result, path: str | Path | None, min_score: float, scores: bool, tolerance: float) -> list[str]:
    """Return lines of YOLO's labels; arguments and errors are those of `Result.to_yolo`."""
    if result.task == "semantic":
        raise ValueError(
            "to_yolo: a line of YOLO's labels is one thing, and a semantic result tells no things apart: segment with "
            "task='panoptic' or 'instance', or take to_coco()"
        )
    height, width = result.size
    lines = []
    for index, segment in _likely(result, min_score):
        if not segment["isthing"]:
            continue
        polygons = mask_polygons(result.mask_of(index), segment["box"], tolerance=tolerance)
        if not polygons:
            continue
        points = (joined_polygon(polygons) / (width, height)).clip(0, 1)
        numbers = [f"{value:.6g}" for value in points.ravel().tolist()]
        score = [f"{segment['score']:.6g}"] if scores else []
        lines.append(" ".join([str(segment["category_id"]), *numbers, *score]))
    if path is not None:
        file = folder = Path(path).expanduser()
        if folder.is_dir() or not folder.suffix:
            name = name_among(result.context, lambda name: (folder / f"{name}.txt").is_file())
            file = folder / f"{name}.txt"
        write_text(file, "".join(f"{line}\n" for line in lines))
    return lines


def supervision_detections(result: Result, min_score: float) -> Any:
    """Return ``supervision.Detections``; arguments and errors are those of `Result.to_supervision`."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        if error.name != "supervision":
            raise
        raise UserError("to_supervision needs the package supervision: pip install 'maskformer-ext[results]'") from None
    found = list(_likely(result, min_score))
    masks = np.zeros((len(found), *result.size), dtype=bool)
    for row, (index, _) in enumerate(found):
        masks[row] = result.mask_of(index)
    segments = [segment for _, segment in found]
    scored = result.task != "semantic"
    return supervision.Detections(
        xyxy=np.array([segment["box"] for segment in segments], dtype=np.float32).reshape(-1, 4),
        mask=masks,
        class_id=np.array([segment["category_id"] for segment in segments], dtype=np.int64),
        confidence=np.array([segment["score"] for segment in segments], dtype=np.float32) if scored else None,
        data={"class_name": np.array([segment["category"] for segment in segments], dtype=np.str_)},
    )


def _likely(result: Result, min_score: float) -> list[tuple[int, dict[str, Any]]]:
    """Return place and description of the segments that have a pixel; instances also need the score."""
    return [
        (index, segment)
        for index, segment in enumerate(result.describe_briefly())
        if segment["area"] and (result.task != "instance" or segment["score"] >= min_score)
    ]


def category_numbers(info: DatasetInfo) -> tuple[int | str, ...]:
    """Return the COCO id of each class: that of the annotation file it was read from, else 1 + the class id."""
    return tuple(range(1, info.num_classes + 1)) if info.file_ids is None else info.file_ids.categories


def _category_ids(method: str, given: CategoryIds | None, info: DatasetInfo) -> Mapping[int, int | str]:
    if given is None:
        given = category_numbers(info)
    elif not isinstance(given, Mapping) and len(given) != info.num_classes:
        raise ValueError(
            f"{method}: category_ids must have one id for each of {info.num_classes} classes, got {len(given)}"
        )
    return given if isinstance(given, Mapping) else dict(enumerate(given))


def _category_id(method: str, ids: Mapping[int, int | str], segment: dict[str, Any]) -> int | str:
    label = segment["category_id"]
    if label not in ids:
        raise ValueError(f"{method}: category_ids has no id for the class {label} ({segment['category']})")
    return ids[label]


def _width_and_height(box: Sequence[int]) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
