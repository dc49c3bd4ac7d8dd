"""A sheet of samples to look at before training: labels over their images, and what augmentation makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw

from maskformer_ext.config import Config
from maskformer_ext.data.augmentation.transforms import Augment
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import resize_image, resize_map
from maskformer_ext.pictures.text import load_font, shortened

_COLUMNS, _CELL = 4, (384, 288)  # width and height of a picture
_GAP, _CAPTION, _TITLE = 12, 24, 44
_COUNT = {"train": 8, "val": 4}
_BACKGROUND, _TEXT, _FAINT = (24, 26, 31), (232, 234, 238), (150, 156, 166)
_NAME_SIZE = 0.055

Cell = tuple[Image.Image, str]


def draw_contact_sheet(splits: Mapping[str, Any], config: Config) -> Image.Image:
    """Draw labelled samples of each split, and training samples after augmentation.

    Args:
        splits: what `check_folder` found of each split.
        config: its ``data`` gives task and augmentation, its ``seed`` the draws.
    """
    sections: list[tuple[str, list[Cell]]] = []
    labels: list[int] = []
    info: DatasetInfo | None = None
    for split, checked in splits.items():
        samples = _read(checked.dataset, checked.examples(_COUNT[split]))
        if not samples:
            continue
        info = checked.dataset.info
        labels += [label for sample in samples for label in sample.labels.tolist()]
        what = {"train": "Training", "val": "Validation"}[split]
        sections.append((f"{what} images and their labels", [_labelled(sample, info) for sample in samples]))
        if split == "train":
            title = "The same as training sees them: resized, cropped, coloured, flipped anew every time"
            sections.append((title, [_augmented(sample, info, config, k) for k, sample in enumerate(samples)]))
    assert info is not None
    return add_legend(_assemble(sections), labels, info)


def _read(dataset: Any, indices: Sequence[int]) -> list[Sample]:
    samples = []
    for index in indices:
        try:
            samples.append(dataset[index].without_overlaps())
        except UserError:  # `check_folder` has named it
            continue
    return samples


def _labelled(sample: Sample, info: DatasetInfo) -> Cell:
    height, width = sample.size
    return _draw(sample, info), f"{sample.name}  {width}x{height}"


def _augmented(sample: Sample, info: DatasetInfo, config: Config, number: int) -> Cell:
    augment = Augment(config.data.augmentation, drop_empty_segments=True)
    seen = augment(sample, torch.Generator().manual_seed(config.seed + number))
    height, width = seen.image.shape[-2:]
    return _draw(seen, info), f"{sample.name}  {width}x{height}"


def _draw(sample: Sample, info: DatasetInfo) -> Image.Image:
    """Draw a sample to fit a cell."""
    image = sample.image.permute(1, 2, 0).contiguous().numpy()
    owners, labels = sample.segment_map.numpy(), sample.labels.tolist()
    scale = min(_CELL[0] / image.shape[1], _CELL[1] / image.shape[0])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    return draw_segments(resize_image(image, size), resize_map(owners, size), labels, info, name_size=_NAME_SIZE)


def _assemble(sections: Sequence[tuple[str, Sequence[Cell]]]) -> Image.Image:
    """Put the sections below each other, each under its title."""
    step = _CELL[0] + _GAP, _CELL[1] + _CAPTION + _GAP
    rows = [-(-len(cells) // _COLUMNS) for _, cells in sections]
    height = sum(_TITLE + count * step[1] for count in rows) + _GAP
    sheet = Image.new("RGB", (_COLUMNS * step[0] + _GAP, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title_font, font = load_font(20), load_font(14)
    top = 0
    for (title, cells), count in zip(sections, rows, strict=True):
        draw.text((_GAP, top + _TITLE // 2), title, font=title_font, fill=_TEXT, anchor="lm")
        for place, (picture, caption) in enumerate(cells):
            left = _GAP + place % _COLUMNS * step[0]
            upper = top + _TITLE + place // _COLUMNS * step[1]
            offset = (_CELL[0] - picture.width) // 2, (_CELL[1] - picture.height) // 2
            sheet.paste(picture, (left + offset[0], upper + offset[1]))
            text = shortened(caption, font, _CELL[0])
            draw.text((left, upper + _CELL[1] + _CAPTION // 2), text, font=font, fill=_FAINT, anchor="lm")
        top += _TITLE + count * step[1]
    return sheet
