"""What the page draws: a map of segments with their list, and the masks of single queries."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.demo.model import DemoModel
from maskformer_ext.demo.views import View
from maskformer_ext.errors import UserError
from maskformer_ext.inference import Instances, PanopticResult
from maskformer_ext.inference.queries import query_probabilities
from maskformer_ext.inference.results import segments_of
from maskformer_ext.inference.seen_image import SeenImage
from maskformer_ext.pictures.segments import segment_colors

_MOST_QUERIES = 60  # that the strip shows
_THUMB_SIDE = 96
_TOP_CLASSES = 5
_LIMITS = {
    "object_mask_threshold": (0.0, 1.0),
    "overlap_threshold": (0.0, 1.0),
    "mask_threshold": (0.0, 1.0),
    "top_k": (1, 1000),
}
_WORDS = {"semantic": ("sum", "argmax"), "resize": ("scores", "logits")}
_OF_TASK = {
    "semantic": ("semantic", "resize"),
    "panoptic": ("object_mask_threshold", "overlap_threshold"),
    "instance": ("mask_threshold", "top_k"),
}


def read_options(task: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task among what the page sends, within their limits.

    Raises:
        UserError: if one is not what it must be.
    """
    options: dict[str, Any] = {}
    for key in _OF_TASK[task]:
        if key not in values:
            continue
        value = values[key]
        if key in _WORDS:
            if value not in _WORDS[key]:
                raise UserError(f"{key} must be one of {', '.join(_WORDS[key])}, got {value!r:.40}")
            options[key] = value
            continue
        options[key] = read_number(key, value, *_LIMITS[key], whole=key == "top_k")
    return options


def read_number(key: str, value: Any, least: float, most: float, *, whole: bool = False) -> Any:
    """Return a number that the page sent.

    Args:
        key: what it is, for the error.
        value: of any type.
        least: the smallest.
        most: the largest.
        whole: whether it must be a whole number.

    Raises:
        UserError: if it is none, or lies outside.
    """
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        raise UserError(f"{key} must be {what} from {least:g} to {most:g}, got {value!r:.40}")
    return value


def segment_view(
    model: DemoModel, view: View, task: str, options: Mapping[str, Any], min_score: float, hidden: Collection[int]
) -> bytes:
    """Reduce what the network said to a map, and describe its segments.

    Args:
        model: that is shown.
        view: of a picture.
        task: what to do.
        options: as `read_options` gives them.
        min_score: segments below it own no pixel.
        hidden: classes whose instances own no pixel, so that one sees what lies below them.

    Returns:
        The packed answer: its header lists the segments, its body is the map (h, w) of uint16, 1 + the place in that
        list, 0 = none.
    """
    result, milliseconds = model.reduce(view.seen, task, options, view.map_size)
    owners, labels, scores, areas = _owned(result, min_score, hidden)
    colors = segment_colors(labels, model.info)
    pixels = owners.size
    rows = zip(labels, scores, areas, colors.tolist(), strict=True)
    segments = [
        {"label": label, "score": score, "share": int(area) / pixels, "color": color}
        for label, score, area, color in rows
    ]
    header = {
        "task": task,
        "size": list(owners.shape),
        "image": list(view.seen.size),
        "segments": segments,
        "reduction_ms": round(milliseconds, 1),
        "network_ms": round(view.milliseconds, 1),
        "network_runs": model.runs,
        "tiles": len(view.seen.tiles),
    }
    return pack(header, (owners + 1).astype("<u2"))


def _owned(
    result: Any, min_score: float, hidden: Collection[int]
) -> tuple[np.ndarray, list[int], list[float | None], np.ndarray]:
    """Return the segment of each pixel (h, w), -1 = none, and class, score and pixels of each segment."""
    if not isinstance(result, Instances):
        owners, labels = segments_of(result)
        areas = np.bincount(owners.reshape(-1) + 1, minlength=len(labels) + 1)[1:]
        scores: list[float | None] = [None] * len(labels)
        if isinstance(result, PanopticResult):
            scores = [round(float(info["score"]), 4) for info in result.segments_info]
        kept = [place for place, score in enumerate(scores) if score is None or score >= min_score]
        table = np.full(len(labels) + 1, -1, dtype=np.int32)  # the last is read by -1
        table[kept] = np.arange(len(kept))
        return table[owners], [labels[place] for place in kept], [scores[place] for place in kept], areas[kept]
    result = result[result.scores >= min_score]
    order = torch.argsort(result.scores, descending=True, stable=True)
    result = result[order]
    labels = result.labels.tolist()
    shown = [place for place, label in enumerate(labels) if label not in hidden]
    owners = segments_of(result[shown], min_score=0.0)[0] if shown else np.full(result.size, -1, dtype=np.int32)
    places = np.array([*shown, -1], dtype=np.int32)
    areas = np.array([segment["area"] for segment in result.describe_briefly()], dtype=np.int64)
    return places[owners], labels, [round(score, 4) for score in result.scores.tolist()], areas


def list_queries(model: DemoModel, view: View) -> bytes:
    """Describe the most confident queries and draw the mask of each.

    Returns:
        The packed answer: its header lists the queries, its body are their masks (n, h, w) uint8, 255 = certain.
    """
    height, width = view.seen.size
    scale = _THUMB_SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    with model.lock:
        classes, masks, tiles = _queries(view.seen)
        best, labels = classes[:, :-1].max(-1)
        used = (best > classes[:, -1]).tolist()
        order = torch.argsort(best, descending=True, stable=True)[:_MOST_QUERIES].tolist()
        planes = [_place(masks[place], view.seen, tiles[place][0], size, antialias=True) for place in order]
    rows = [
        {
            "place": place,
            "query": tiles[place][1],
            "tile": tiles[place][0],
            "label": int(labels[place]),
            "probability": round(float(best[place]), 4),
            "used": used[place],
        }
        for place in order
    ]
    body = np.stack(planes) if planes else np.zeros((0, *size), dtype=np.uint8)
    facts = {"size": list(size), "total": len(classes), "used": sum(used), "tiles": len(view.seen.tiles)}
    return pack({**facts, "queries": rows}, body)


def show_query(model: DemoModel, view: View, place: int) -> bytes:
    """Draw the mask of one query at the size of the page's map, and tell what it takes it for.

    Args:
        model: that is shown.
        view: of a picture.
        place: of the query, as `list_queries` tells it.

    Raises:
        UserError: if there is no such query.
    """
    with model.lock:
        classes, masks, tiles = _queries(view.seen)
        if not 0 <= place < len(classes):
            raise UserError(f"there is no query {place}: there are {len(classes)}")
        plane = _place(masks[place], view.seen, tiles[place][0], view.map_size, antialias=False)
    top = torch.argsort(classes[place], descending=True, stable=True)[:_TOP_CLASSES].tolist()
    last = classes.shape[1] - 1
    rows = [{"label": -1 if k == last else k, "probability": round(float(classes[place, k]), 4)} for k in top]
    header = {"size": list(plane.shape), "place": place, "query": tiles[place][1], "tile": tiles[place][0]}
    return pack({**header, "classes": rows}, plane)


@torch.inference_mode()
def _queries(seen: SeenImage) -> tuple[Tensor, list[Tensor], list[tuple[int, int]]]:
    """Return class probabilities (n, K + 1), masks, and tile and number, of the queries of all tiles."""
    if seen.outputs[0].class_logits is None:
        raise UserError("a per-pixel baseline has no queries")
    said = [query_probabilities(output) for output in seen.outputs]
    masks = [mask for _, planes in said for mask in planes]
    numbers = [(tile, query) for tile, (classes, _) in enumerate(said) for query in range(len(classes))]
    return torch.cat([classes for classes, _ in said]), masks, numbers


@torch.inference_mode()
def _place(mask: Tensor, seen: SeenImage, tile: int, size: tuple[int, int], *, antialias: bool) -> np.ndarray:
    """Return the mask of a query where its tile lies in a picture of another size, (h, w) uint8."""
    bounds = seen.tiles[tile]
    down, across = size[0] / seen.shape[0], size[1] / seen.shape[1]
    top, bottom = math.floor(bounds.top * down), max(math.floor(bounds.top * down) + 1, round(bounds.bottom * down))
    left, right = (
        math.floor(bounds.left * across),
        max(math.floor(bounds.left * across) + 1, round(bounds.right * across)),
    )
    bottom, right = min(bottom, size[0]), min(right, size[1])
    extent = (max(1, bottom - top), max(1, right - left))
    plane = F.interpolate(mask[None, None], extent, mode="bilinear", align_corners=False, antialias=antialias)[0, 0]
    placed = np.zeros(size, dtype=np.uint8)
    placed[top:bottom, left:right] = (plane.clamp(0, 1) * 255).round().byte().numpy()[: bottom - top, : right - left]
    return placed


def pack(header: Mapping[str, Any], body: np.ndarray) -> bytes:
    """Join a description and numbers: the length of the JSON text (4 bytes, little-endian), the text, the numbers.

    The text ends in spaces so that the numbers begin at an even byte.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (len(text) % 2)
    return len(text).to_bytes(4, "little") + text + np.ascontiguousarray(body).tobytes()
