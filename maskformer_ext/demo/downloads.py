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
from maskformer_ext.inference.results import Result
from maskformer_ext.inference.results.drawing import overlay_shape
from maskformer_ext.pictures.segment_maps import index_of
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_image, resize_map

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
    result, _ = model.reduce(view.seen, task, options)
    stem = PurePosixPath(view.name).stem
    if kind == "coco":
        text = json.dumps(_coco(result, view.name, min_score), allow_nan=False)
        return text.encode(), "application/json", f"{stem}_coco.json"
    ids = result.id_map(min_score=min_score)
    if kind == "ids":
        return _png(Image.fromarray(ids)), "image/png", f"{stem}_ids.png"
    segments = [
        segment
        for segment in result.describe_briefly()
        if segment["category_id"] not in hidden and segment.get("score", 1.0) >= min_score
    ]
    return _png(_overlay(view, ids, segments, model, opacity)), "image/png", f"{stem}_overlay.png"


def _overlay(
    view: View, ids: np.ndarray, segments: list[dict[str, Any]], model: DemoModel, opacity: float
) -> Image.Image:
    labels = [segment["category_id"] for segment in segments]
    size = overlay_shape(ids.shape[0], ids.shape[1], LONG_SIDE)
    owners = index_of(resize_map(ids, size), [segment["id"] for segment in segments])
    picture = draw_segments(resize_image(view.ground, size), owners, labels, model.info, opacity=opacity)
    return add_legend(picture, labels, model.info)


def _coco(result: Result, name: str, min_score: float) -> dict[str, Any]:
    """Return a file of COCO's format about one image. Ids of classes are those of their file, or begin at 1."""
    info = result.info
    numbers = info.file_ids.categories if info.file_ids is not None else tuple(range(1, info.num_classes + 1))
    rows = zip(numbers, info.classes, strict=True)
    return {
        "images": [{"id": 1, "file_name": name, "height": result.size[0], "width": result.size[1]}],
        "categories": [
            {"id": number, "name": text, "isthing": int(label in info.thing_classes)}
            for label, (number, text) in enumerate(rows)
        ],
        "annotations": result.to_coco(image_id=1, category_ids=numbers, min_score=min_score),
    }


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
