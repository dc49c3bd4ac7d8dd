"""Pictures of segmentations: colours over the image, thin outlines, class names, a legend."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.pictures.segment_maps import bands
from maskformer_ext.pictures.sizes import resize_image, resize_map, shown_size
from maskformer_ext.pictures.text import load_font, shortened, text_size, write_names

_GOLDEN_ANGLE = 0.61803398875
_BAND_PIXELS = 1 << 16  # that are mixed at a time: what they need stays in the cache
_SATURATION = 0.25
_ERROR = (235, 64, 52)
_LEGEND_ENTRIES = 150  # the most classes that are listed
_LEGEND_WIDTH = 24  # letters' heights that a legend is wide at least, however thin the picture
_LEGEND_BACKGROUND, _LEGEND_TEXT = (24, 26, 31), (232, 234, 238)


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
    long_side: int = 0,
) -> Image.Image:
    """Lay the segments over an image, with outlines and class names.

    Args:
        image: (H, W, 3) uint8 RGB.
        segment_map: (H, W) integers, the index of the segment that owns the pixel, -1 = void (left as it is).
        labels: (T,) class id of each segment.
        info: names and colours of the classes.
        opacity: of the colours, 0..1.
        names: write class names on the segments that have room.
        name_size: height of the names relative to the shorter side (11 to 28 pixels, more on large pictures).
        short_side: enlarge small images by a whole factor so that the shorter side has about this many pixels, as far
            as `shown_size` allows.
        long_side: shrink images whose longer side is larger; 0 = never.

    Returns:
        An RGB picture.
    """
    size = shown_size(*segment_map.shape, short_side=short_side, long_side=long_side)
    base, owners = resize_image(np.asarray(image), size), resize_map(segment_map, size)
    colors = segment_colors(labels, info)
    table = np.concatenate([colors, np.zeros((1, 3), dtype=np.uint8)]).astype(np.float32)  # -1 reads the last row
    drawn = np.empty((*size, 3), dtype=np.uint8)
    thickness = max(1, round(min(size) / 500))
    for rows in bands(*size, _BAND_PIXELS):
        first = max(0, rows.start - thickness)
        around = owners[first : rows.stop + thickness]
        edge = outline(around, thickness=thickness)[rows.start - first :][: rows.stop - rows.start]
        drawn[rows] = _mixed(base[rows], owners[rows], edge, table, opacity)
    picture = Image.fromarray(drawn)
    if names:
        write_names(picture, owners, labels, info, name_size)
    return picture


def _mixed(base: np.ndarray, owners: np.ndarray, edge: np.ndarray, table: np.ndarray, opacity: float) -> np.ndarray:
    """Mix rows of an image (n, W, 3) with the colours of their segments; edges are brighter."""
    inside = owners >= 0
    strength = np.where(inside, np.float32(opacity), np.float32(0))[..., None]
    color = table[owners]
    pixels = base.astype(np.float32)
    grey = ((pixels[..., 0] + pixels[..., 1] + pixels[..., 2]) / np.float32(3))[..., None]
    # Muted, so that the colours are those of the legend.
    muted = np.where((inside & (opacity > 0))[..., None], grey + _SATURATION * (pixels - grey), pixels)
    picture = muted * (1 - strength) + color * strength
    picture[edge] = 0.65 * (0.55 * color[edge] + 0.45 * 255) + 0.35 * picture[edge]
    return picture.clip(0, 255).astype(np.uint8)


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


def add_legend(picture: Image.Image, labels: Sequence[int], info: DatasetInfo) -> Image.Image:
    """Put the classes that occur below a picture, with the number of things of each.

    Args:
        picture: of any size; one that is narrower than a legend gets room at its right.
        labels: (T,) class ids of the segments in it.
        info: names and colours of the classes.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=info.num_classes)
    present = np.flatnonzero(counts).tolist()
    font = load_font(text_size(picture.height, picture.width, 1 / 32, 12, 26))
    line = round(font.size * 1.75)
    swatch, gap = round(font.size * 0.95), round(font.size * 0.45)
    least = round(_LEGEND_WIDTH * font.size)
    widest = max(picture.width, least) - swatch - 5 * gap
    entries: list[tuple[str, int | None]] = []
    for label in present[:_LEGEND_ENTRIES]:
        number = f" \u00d7{counts[label]}" if label in info.thing_classes else ""
        name = shortened(info.classes[label], font, widest - font.getlength(number))
        entries.append((f"{name}{number}", label))
    if len(present) > len(entries):
        entries.append((f"and {len(present) - len(entries)} more classes", None))
    entries = entries or [("nothing found", None)]
    widths = [round((swatch + gap if label is not None else 0) + font.getlength(text)) for text, label in entries]
    canvas = max(picture.width, min(least, sum(widths) + 4 * gap * len(widths)))
    placed, x, y = [], gap * 2, gap
    for (text, label), width in zip(entries, widths, strict=True):
        if x > gap * 2 and x + width + gap > canvas:
            x, y = gap * 2, y + line
        placed.append((x, y, text, label))
        x += width + gap * 4
    result = Image.new("RGB", (canvas, picture.height + y + line + gap), _LEGEND_BACKGROUND)
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
