"""The files that the page hands out: overlay, map of ids and COCO JSON, at the size of the picture."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from maskformer_ext.config.values import check_choice
from maskformer_ext.demo.model import DemoModel
from maskformer_ext.demo.views import View
from maskformer_ext.inference import Instances
from maskformer_ext.ops.support import rle
from maskformer_ext.pictures.segment_maps import index_of
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import resize_image, resize_map
from maskformer_ext.prediction.result_files import describe, id_map, overlay_ground

KINDS = ("overlay", "ids", "coco")


def make_download(
    kind: str,
    model: DemoModel,
    view: View,
    task: str,
    options: Mapping[str, Any],
    *,
    min_score: float,
    hidden: Collection[int] = (),
    opacity: float = 0.5,
) -> tuple[bytes, str, str]:
    """Make a file of what the page shows, at the size of the picture.

    Args:
        kind: "overlay", "ids" or "coco".
        model: that is shown.
        view: of a picture.
        task: what to do.
        options: of the task.
        min_score: segments below it are left out.
        hidden: classes that the overlay leaves out.
        opacity: of the overlay.

    Returns:
        The bytes, their media type and a name for the file.

    Raises:
        UserError: if the kind is unknown, or there are more segments than a map of ids can number.
    """
    check_choice("kind", kind, KINDS)
    with model.lock:
        result = view.seen.segment(task, thing_classes=model.info.thing_classes or None, **options)
    if isinstance(result, Instances):
        result = result[result.scores >= min_score]
    ids = id_map(result, model.info, min_score=min_score)
    segments = describe(result, ids, model.info)
    left_out = [segment["id"] for segment in segments if segment.get("score", 1.0) < min_score]
    segments = [segment for segment in segments if segment["id"] not in left_out]
    if left_out:
        ids[np.isin(ids, left_out)] = 0
    stem = PurePosixPath(view.name.replace(" frame ", "_")).stem
    if kind == "ids":
        return _png(Image.fromarray(ids)), "image/png", f"{stem}_ids.png"
    if kind == "overlay":
        return _png(_overlay(view, ids, segments, model, hidden, opacity)), "image/png", f"{stem}_overlay.png"
    text = json.dumps(_coco(ids, segments, model, view.name), allow_nan=False)
    return text.encode(), "application/json", f"{stem}_coco.json"


def _overlay(
    view: View,
    ids: np.ndarray,
    segments: list[dict[str, Any]],
    model: DemoModel,
    hidden: Collection[int],
    opacity: float,
) -> Image.Image:
    shown = [segment for segment in segments if segment["category_id"] not in hidden]
    labels = [segment["category_id"] for segment in shown]
    ground = overlay_ground(resize_image(view.ground, ids.shape) if ids.size < view.ground.size // 3 else view.ground)
    owners = index_of(resize_map(ids, ground.shape[:2]), [segment["id"] for segment in shown])
    return add_legend(draw_segments(ground, owners, labels, model.info, opacity=opacity), labels, model.info)


def _coco(ids: np.ndarray, segments: list[dict[str, Any]], model: DemoModel, name: str) -> dict[str, Any]:
    height, width = ids.shape
    return {
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "categories": [
            {"id": label, "name": text, "isthing": int(label in model.info.thing_classes)}
            for label, text in enumerate(model.info.classes)
        ],
        "annotations": [_annotation(number, ids, segment) for number, segment in enumerate(segments, start=1)],
    }


def _annotation(number: int, ids: np.ndarray, segment: dict[str, Any]) -> dict[str, Any]:
    left, top, right, bottom = (int(side) for side in segment["box"])
    lengths = segment.get("rle") or _run_lengths(ids, segment["id"], (left, top, right, bottom))
    annotation = {
        "id": number,
        "image_id": 1,
        "category_id": segment["category_id"],
        "segmentation": lengths,
        "area": segment["area"],
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }
    return annotation | ({"score": segment["score"]} if "score" in segment else {})


def _run_lengths(ids: np.ndarray, value: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    left, top, right, bottom = box
    mask = np.zeros(ids.shape, dtype=bool)
    mask[top:bottom, left:right] = ids[top:bottom, left:right] == value
    encoded = rle.encode(np.packbits(mask, axis=-1, bitorder="little"), box, (ids.shape[0], ids.shape[1]))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
