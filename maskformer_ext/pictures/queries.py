"""Pictures of single queries: the mask of each one in an image, and what each one stands for over many images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.pictures.segments import outline
from maskformer_ext.pictures.sizes import resize_image
from maskformer_ext.pictures.text import load_font, shortened

_TILE_SIDE = 176  # longer side of a tile in pixels
_GAP, _TEXT = 6, 12
_BACKGROUND, _BRIGHT, _DIM = (24, 26, 31), (232, 234, 238), (138, 143, 152)
_LEAST_BRIGHT = 210.0  # of a class colour's largest channel: dark colours would not show
_SUMMARY_CELLS = (48, 64)  # height and width of the maps that are averaged, whatever the images' shapes


def draw_queries(
    pixels: Tensor, classes: Tensor, masks: Tensor, info: DatasetInfo, *, most: int = 60, columns: int = 0
) -> Image.Image:
    """Show every query's mask over the image, the most confident first; "no object" is dim.

    Args:
        pixels: (3, H, W) uint8.
        classes: (Q, K + 1) probabilities.
        masks: (Q, h, w) probabilities.
        info: names and colours of the classes.
        most: how many queries are shown.
        columns: of the grid; 0: about as wide as high.
    """
    image = pixels.permute(1, 2, 0).numpy()
    scale = _TILE_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    small = resize_image(image, size)
    best, labels = classes[:, :-1].max(-1)
    used = _used(classes).tolist()
    shown = torch.argsort(best, descending=True, stable=True)[:most]
    planes = F.interpolate(masks[shown][None], size, mode="bilinear", align_corners=False, antialias=True)[0].numpy()
    tiles, captions = [Image.fromarray(small)], [("image", True)]
    for query, plane in zip(shown.tolist(), planes, strict=True):
        label = int(labels[query])
        tiles.append(_heat(small, plane, info.colors[label], dim=not used[query]))
        captions.append((f"{query}  {info.classes[label]} {float(best[query]):.2f}", used[query]))
    return _grid(tiles, captions, columns)


class QuerySummary:
    """Average where each query's masks lie, and count which classes they have, over many images.

    Args:
        info: names and colours of the classes.
    """

    def __init__(self, info: DatasetInfo) -> None:
        self.info, self.images = info, 0
        self.masks, self.counts = torch.zeros(()), torch.zeros(())

    def add(self, classes: Tensor, masks: Tensor) -> None:
        """Count one image; arguments as those of `draw_queries`. What that shows bright counts."""
        resized = F.interpolate(masks[None], _SUMMARY_CELLS, mode="bilinear", align_corners=False, antialias=True)[0]
        labels, used = classes[:, :-1].argmax(-1), _used(classes)
        if self.images == 0:
            self.masks, self.counts = torch.zeros_like(resized), torch.zeros_like(classes[:, :-1])
        self.images += 1
        self.masks += resized * used[:, None, None]
        self.counts[used, labels[used]] += 1

    def state(self) -> dict[str, Any]:
        """Return the sums as JSON takes them, for `merge` in another process."""
        return {"images": self.images, "masks": self.masks.tolist(), "counts": self.counts.tolist()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the sums of another process.

        Args:
            state: as `state` returns it, of the same model.
        """
        if state["images"]:
            self.images += state["images"]
            self.masks = self.masks + torch.tensor(state["masks"])
            self.counts = self.counts + torch.tensor(state["counts"])

    def draw(self, *, columns: int = 0) -> Image.Image:
        """Show the average mask of every query that is used, the most used first, with its most frequent classes.

        A caption reads: number of the query, share of the images in which it is used, and of those its classes.

        Args:
            columns: of the grid; 0: about as wide as high.
        """
        used = self.counts.sum(-1) if self.images else torch.zeros(0)
        order = [query for query in torch.argsort(used, descending=True, stable=True).tolist() if used[query] > 0]
        height, width = (side * _TILE_SIDE // max(_SUMMARY_CELLS) for side in _SUMMARY_CELLS)
        ground = np.zeros((height, width, 3), dtype=np.uint8)
        tiles, captions = [], []
        for query in order:
            mean = self.masks[query] / used[query]
            plane = F.interpolate(mean[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
            counts = self.counts[query]
            top = torch.argsort(counts, descending=True, stable=True)[:2].tolist()
            names = ", ".join(
                f"{self.info.classes[k]} {self._share(counts[k], used[query])}" for k in top if counts[k] > 0
            )
            tiles.append(_heat(ground, plane, self.info.colors[top[0]], dim=False, edges=False))
            captions.append((f"{query}  {self._share(used[query], self.images)}: {names}", True))
        if not tiles:
            tiles, captions = [Image.fromarray(ground)], [("all are \u201cno object\u201d", False)]
        return _grid(tiles, captions, columns)

    @staticmethod
    def _share(part: Tensor | float, whole: Tensor | float) -> str:
        return f"{round(100 * float(part) / float(whole))}%"


def _used(classes: Tensor) -> Tensor:
    """Return for each query (Q, K + 1) whether some class is more probable than "no object"."""
    return classes[:, :-1].amax(-1) > classes[:, -1]


def _heat(image: np.ndarray, plane: np.ndarray, color: Sequence[int], *, dim: bool, edges: bool = True) -> Image.Image:
    """Tint an image (H, W, 3) where a mask (H, W) is probable, and outline what is more likely inside than not."""
    grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2) * 0.5
    tint = np.asarray(color, dtype=np.float64)
    tint = tint * max(1.0, _LEAST_BRIGHT / tint.max()) if tint.any() else np.full(3, _LEAST_BRIGHT)
    strength = plane[..., None] * (0.35 if dim else 0.8)
    picture = grey * (1 - strength) + (0.35 * grey + tint) * strength
    if edges and not dim:
        edge = outline(np.where(plane > 0.5, 0, -1))
        picture[edge] = 0.4 * picture[edge] + 0.6 * 255
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _grid(tiles: Sequence[Image.Image], captions: Sequence[tuple[str, bool]], columns: int) -> Image.Image:
    """Lay tiles of one size in rows, each with a line below it, bright or dim."""
    font = load_font(_TEXT)
    width, height = tiles[0].size
    cell = (max(width, 120) + _GAP, height + 2 * _TEXT + _GAP)
    columns = columns or max(1, min(len(tiles), round(math.sqrt(len(tiles) * 1.5 * cell[1] / cell[0]))))
    rows = math.ceil(len(tiles) / columns)
    picture = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, (tile, (text, bright)) in enumerate(zip(tiles, captions, strict=True)):
        x, y = _GAP + index % columns * cell[0], _GAP + index // columns * cell[1]
        picture.paste(tile, (x, y))
        draw.text(
            (x, y + height + 4), shortened(text, font, cell[0] - _GAP), font=font, fill=_BRIGHT if bright else _DIM
        )
    return picture
