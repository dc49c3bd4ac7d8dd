"""The files that the page hands out: overlay, map of ids and COCO JSON, at the size of the picture."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from maskformer_ext.config.values import check_choice
from maskformer_ext.demo.model import DemoModel
from maskformer_ext.demo.views import View
from maskformer_ext.inference.results import Result
from maskformer_ext.inference.results.drawing import draw_result
from maskformer_ext.inference.results.formats import category_numbers
from maskformer_ext.media.images import png_bytes
from maskformer_ext.pictures.sizes import LONG_SIDE

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
        return png_bytes(Image.fromarray(ids)), "image/png", f"{stem}_ids.png"
    segments = [
        segment
        for segment in result.describe_briefly()
        if segment["category_id"] not in hidden and segment.get("score", 1.0) >= min_score
    ]
    overlay = draw_result(
        result,
        view.ground,
        names=True,
        legend=True,
        min_score=min_score,
        opacity=opacity,
        longest_side=LONG_SIDE,
        ids=ids,
        segments=segments,
    )
    return png_bytes(overlay), "image/png", f"{stem}_overlay.png"


def _coco(result: Result, name: str, min_score: float) -> dict[str, Any]:
    """Return a file of COCO's format about one image. Ids of classes are those of their file, or begin at 1."""
    info = result.info
    numbers = category_numbers(info)
    rows = zip(numbers, info.classes, strict=True)
    return {
        "images": [{"id": 1, "file_name": name, "height": result.size[0], "width": result.size[1]}],
        "categories": [
            {"id": number, "name": text, "isthing": int(label in info.thing_classes)}
            for label, (number, text) in enumerate(rows)
        ],
        "annotations": result.to_coco(image_id=1, category_ids=numbers, min_score=min_score),
    }
