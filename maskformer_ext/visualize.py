"""Pictures of segmentations: colours over the image, thin outlines, class names, a legend."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.prediction import PanopticResult, SemanticResult

_GOLDEN_ANGLE = 0.61803398875
_MAX_NAMES, _MAX_SAME_NAME = 60, 8
_SATURATION = 0.25
_ERROR = (235, 64, 52)
_LEGEND_BACKGROUND, _LEGEND_TEXT = (24, 26, 31), (232, 234, 238)

PICTURED_SCORE = 0.5
"""Instances of a lower score are not drawn."""


def segment_colors(labels: Sequence[int], info: DatasetInfo) -> np.ndarray:
    """Choose a colour for each segment.

    Stuff has the colour of its class. Things are told apart: by hue where there are few thing classes, otherwise by
    shades of the colour of their class.

    Args:
        labels: (T,) class ids.
        info: the classes.

    Returns:
        (T, 3) uint8 RGB.
    """
    things = set(info.thing_classes)
    colors = np.zeros((len(labels), 3), dtype=np.uint8)
    seen: dict[int, int] = {}
    for index, label in enumerate(labels):
        label = int(label)
        if label not in things:
            colors[index] = info.colors[label]
            continue
        number = seen.get(label, 0)
        seen[label] = number + 1
        colors[index] = _instance_color(info.colors[label], number, by_hue=len(things) <= 2)
    return colors


def _instance_color(base: tuple[int, int, int], number: int, *, by_hue: bool) -> tuple[int, int, int]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in base))
    if by_hue:
        hue = (hue + number * _GOLDEN_ANGLE) % 1.0
        lightness = (0.58, 0.46, 0.68)[number % 3]
        saturation = max(saturation, 0.75)
    elif number:
        shift = ((number * _GOLDEN_ANGLE) % 1.0) - 0.5
        hue = (hue + 0.05 * shift) % 1.0
        lightness = min(0.82, max(0.28, lightness + 0.36 * shift))
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def segments_of(result: Any, *, min_score: float = PICTURED_SCORE) -> tuple[np.ndarray, list[int]]:
    """Return a result of `segment` as what the functions below draw.

    Args:
        result: ``SemanticResult``, ``PanopticResult`` or ``Instances`` (where these overlap, the better score shows).
        min_score: instances below it own no pixel: average precision wants many guesses, pictures the likely ones.

    Returns:
        (H, W) int64 index of the segment that owns each pixel, -1 = void, and the class id of each segment.
    """
    if isinstance(result, SemanticResult):
        present, index = np.unique(result.class_map.cpu().numpy(), return_inverse=True)
        return index.reshape(result.class_map.shape).astype(np.int64), present.tolist()
    if isinstance(result, PanopticResult):
        ids = [info["id"] for info in result.segments_info]
        table = np.full(max([0, *ids]) + 1, -1, dtype=np.int64)
        table[ids] = np.arange(len(ids))
        labels = [info["category_id"] for info in result.segments_info]
        return table[result.segment_map.cpu().numpy()], labels
    owners = np.full(result.size, -1, dtype=np.int64)
    order = torch.argsort(result.scores, stable=True)
    for index in order[result.scores[order] >= min_score].tolist():
        owners[result[index : index + 1].masks[0].cpu().numpy()] = index
    return owners, result.labels.tolist()


def draw_segments(
    image: np.ndarray,
    segment_map: np.ndarray,
    labels: Sequence[int],
    info: DatasetInfo,
    *,
    opacity: float = 0.5,
    names: bool = True,
    name_size: float = 0.038,
    short_side: int = 0,
) -> Image.Image:
    """Lay the segments over an image, with outlines and class names.

    Args:
        image: (H, W, 3) uint8 RGB.
        segment_map: (H, W) integers, the index of the segment that owns the pixel, -1 = void (left as it is).
        labels: (T,) class id of each segment.
        info: names and colours of the classes.
        opacity: of the colours, 0..1.
        names: write class names on the segments that have room.
        name_size: height of the names relative to the shorter side (11 to 28 pixels).
        short_side: enlarge small images by a whole factor so that the shorter side has about this many pixels.

    Returns:
        An RGB picture.
    """
    factor = max(1, round(short_side / max(1, min(segment_map.shape))))
    owners = segment_map.astype(np.int64)
    base = np.asarray(image)
    if factor > 1:
        size = (base.shape[1] * factor, base.shape[0] * factor)
        base = np.asarray(Image.fromarray(base).resize(size, Image.Resampling.BICUBIC))
        owners = owners.repeat(factor, 0).repeat(factor, 1)
    colors = segment_colors(labels, info)
    table = np.concatenate([colors, np.zeros((1, 3), dtype=np.uint8)]).astype(np.float32)  # -1 reads the last row
    strength = np.where(owners >= 0, np.float32(opacity), np.float32(0))[..., None]
    grey = base.mean(2, keepdims=True, dtype=np.float32)
    muted = np.where(
        strength > 0, grey + _SATURATION * (base - grey), base
    )  # so that the colours are those of the legend
    picture = muted * (1 - strength) + table[owners] * strength
    edge = outline(owners, thickness=max(1, round(min(owners.shape) / 500)))
    picture[edge] = 0.65 * (0.55 * table[owners[edge]] + 0.45 * 255) + 0.35 * picture[edge]
    drawn = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    if names:
        _write_names(drawn, owners, labels, info, name_size)
    return drawn


def draw_errors(image: np.ndarray, class_map: np.ndarray, truth: np.ndarray, ignore_label: int) -> Image.Image:
    """Show where a class map is wrong: red on a grey image; what is not known in the truth is dark.

    Args:
        image: (H, W, 3) uint8 RGB.
        class_map: (H, W) predicted class ids.
        truth: (H, W) true class ids or ``ignore_label``.
        ignore_label: value where the truth is not known.
    """
    grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2) * 0.55 + 90
    picture = np.where((class_map != truth)[..., None], 0.25 * grey + 0.75 * np.array(_ERROR), grey)
    picture = np.where((truth == ignore_label)[..., None], 0.35 * grey, picture)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def outline(segment_map: np.ndarray, *, thickness: int = 1) -> np.ndarray:
    """Return (H, W) bool: pixels of a segment that touch another one, or void, within ``thickness``."""
    edge = np.zeros(segment_map.shape, dtype=bool)
    edge[:-1] |= segment_map[:-1] != segment_map[1:]
    edge[1:] |= segment_map[1:] != segment_map[:-1]
    edge[:, :-1] |= segment_map[:, :-1] != segment_map[:, 1:]
    edge[:, 1:] |= segment_map[:, 1:] != segment_map[:, :-1]
    for _ in range(thickness - 1):
        grown = edge.copy()
        grown[:-1] |= edge[1:]
        grown[1:] |= edge[:-1]
        grown[:, :-1] |= edge[:, 1:]
        grown[:, 1:] |= edge[:, :-1]
        edge = grown
    return edge & (segment_map >= 0)


def _write_names(
    picture: Image.Image, owners: np.ndarray, labels: Sequence[int], info: DatasetInfo, name_size: float
) -> None:
    """Write names at the middle of the largest segments, as long as they fit and do not touch each other.

    Where a thing class occurs many times, the legend names it: a name on each would hide the image.
    """
    occurrences = np.bincount(np.asarray(labels, dtype=np.int64), minlength=info.num_classes)
    areas = np.bincount(owners[owners >= 0], minlength=len(labels))
    draw = ImageDraw.Draw(picture)
    font = load_font(min(28, max(11, round(min(owners.shape) * name_size))))
    taken: list[tuple[float, float, float, float]] = []
    for index in np.argsort(-areas, kind="stable")[:_MAX_NAMES]:
        if occurrences[labels[index]] > _MAX_SAME_NAME:
            continue
        name = info.classes[int(labels[index])]
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        width, height = right - left, bottom - top
        if areas[index] < 0.8 * width * height:
            continue
        row, column, room = _middle(owners == index)
        if room < 0.45 * height:
            continue
        x = min(max(column - width / 2, 3), max(3, picture.width - width - 3))
        y = min(max(row - height / 2, 3), max(3, picture.height - height - 3))
        box = (x - 3, y - 3, x + width + 3, y + height + 3)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        draw.text((x - left, y - top), name, font=font, fill=(255, 255, 255), stroke_width=2, stroke_fill=(16, 18, 22))


def _middle(mask: np.ndarray) -> tuple[int, int, int]:
    """Return row, column and clearance, in pixels along the axes, of the point farthest from the mask's border."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)

    def run_before(values: np.ndarray, axis: int) -> np.ndarray:
        position = np.arange(values.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
        return position - np.maximum.accumulate(np.where(values, 0, position), axis=axis)

    clearance = np.minimum.reduce(
        [
            run_before(padded, 0),
            run_before(padded[::-1], 0)[::-1],
            run_before(padded, 1),
            run_before(padded[:, ::-1], 1)[:, ::-1],
        ]
    )
    row, column = np.unravel_index(int(clearance.argmax()), clearance.shape)
    return top + int(row) - 1, left + int(column) - 1, int(clearance.max())


def add_legend(picture: Image.Image, labels: Sequence[int], info: DatasetInfo) -> Image.Image:
    """Put the classes that occur below a picture, with the number of things of each.

    Args:
        picture: of any size.
        labels: (T,) class ids of the segments in it.
        info: names and colours of the classes.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=info.num_classes)
    entries: list[tuple[str, int | None]] = [
        (f"{name} \u00d7{counts[label]}" if label in info.thing_classes else name, label)
        for label, name in enumerate(info.classes)
        if counts[label]
    ]
    font = load_font(min(26, max(12, round(min(picture.size) / 32))))
    line = round(font.size * 1.75)
    swatch, gap = round(font.size * 0.95), round(font.size * 0.45)
    placed, x, y = [], gap * 2, gap
    for text, label in entries or [("nothing found", None)]:
        width = (swatch + gap if label is not None else 0) + font.getlength(text)
        if x > gap * 2 and x + width + gap > picture.width:
            x, y = gap * 2, y + line
        placed.append((x, y, text, label))
        x += round(width) + gap * 4
    result = Image.new("RGB", (picture.width, picture.height + y + line + gap), _LEGEND_BACKGROUND)
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for x, y, text, label in placed:
        middle = picture.height + y + line // 2
        if label is not None:
            _draw_swatch(draw, x, middle - swatch // 2, swatch, label, info)
            x += swatch + gap
        draw.text((x, middle), text, font=font, fill=_LEGEND_TEXT, anchor="lm")
    return result


def _draw_swatch(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, label: int, info: DatasetInfo) -> None:
    """Draw a square of the class colour; three shades where instances differ."""
    shades = [tuple(color) for color in segment_colors([label] * 3, info).tolist()]
    for index, shade in enumerate(shades):
        left, right = x + side * index // 3, x + side * (index + 1) // 3
        draw.rectangle((left, y, right - 1, y + side - 1), fill=shade)


@lru_cache(maxsize=32)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the sans-serif font that comes with matplotlib, at a size in pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
