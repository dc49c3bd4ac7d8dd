"""Strips of image, truth and prediction for the results page."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image
from torch import nn

from maskformer_ext.config import Config
from maskformer_ext.data.skipping import read_sample
from maskformer_ext.data.types import DatasetInfo, Sample, SampleDataset
from maskformer_ext.evaluation.run import tasks_of
from maskformer_ext.inference import segment_tasks
from maskformer_ext.inference.results import segments_of
from maskformer_ext.pictures.segments import draw_errors, draw_segments, segment_colors
from maskformer_ext.pictures.sizes import resize_image, resize_map, shown_size

_SHORT_SIDE, _LONG_SIDE = 384, 640
_DRAWN_SIDE = 2 * _LONG_SIDE  # twice what is embedded, so that lines stay smooth
_NAME_SIZE = 0.06  # the page shows the pictures smaller than they are
_QUALITY = 84


def picture_section(model: nn.Module, dataset: SampleDataset, config: Config, count: int) -> str:
    """Return the part of the page that shows predictions.

    Args:
        model: predicts.
        dataset: images and truth; its ``info`` gives the classes.
        config: which tasks, and how to run the model.
        count: how many images, evenly spaced over the data set.
    """
    info: DatasetInfo = dataset.info
    tasks: list[str] = [task for task in ("panoptic", "instance", "semantic") if task in tasks_of(config, info)]
    if "panoptic" in tasks and "instance" in tasks:
        tasks.remove("instance")  # the same masks, drawn alike
    columns = ["Image"]
    for task in tasks:
        columns += (
            [f"Truth, {task}", f"Prediction, {task}"] if task != "semantic" or len(tasks) == 1 else [task.title()]
        )
    if "semantic" in tasks:
        columns.append("Semantic errors" if len(tasks) > 1 else "Errors")
    head = "".join(f"<div>{escape(column)}</div>" for column in columns)
    picked = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    skip = config.data.on_error == "skip"
    samples = (read_sample(dataset, int(index), skip_errors=skip, report=False) for index in picked)
    strips = "".join(_strip(model, sample, info, config, tasks) for sample in samples if sample is not None)
    return (
        f'<h2>Predictions on validation images</h2><div class="legend">{_legend(info)}</div>'
        f'<div class="strip head">{head}</div>{strips}'
    )


def _strip(model: nn.Module, sample: Sample, info: DatasetInfo, config: Config, tasks: list[str]) -> str:
    image = sample.image.permute(1, 2, 0).cpu().numpy()
    shown = shown_size(*image.shape[:2], short_side=_SHORT_SIDE, long_side=_DRAWN_SIDE)
    results = segment_tasks(model, [sample.image], tasks, thing_classes=info.thing_classes, config=config.inference)[0]
    pictures = [("image", Image.fromarray(resize_image(image, shown)))]
    for task in tasks:
        owners, labels = segments_of(results[task])
        if task != "semantic" or len(tasks) == 1:
            truth = sample.segment_map.cpu().numpy()
            pictures.append((f"{task} truth", _draw(image, truth, sample.labels.tolist(), info)))
        pictures.append((f"{task} prediction", _draw(image, owners, labels, info)))
        if task == "semantic":
            known = sample.label_map(info.ignore_label).cpu().numpy()
            classes = results[task].class_map.cpu().numpy()
            classes, known = resize_map(classes, shown), resize_map(known, shown)
            wrong = draw_errors(resize_image(image, shown), classes, known, info.ignore_label)
            pictures.append(("semantic errors", wrong))
    cells = "".join(f'<img alt="{escape(what)} of {escape(sample.name)}" src="{embed(p)}">' for what, p in pictures)
    return f'<figure><div class="strip">{cells}</div><figcaption>{escape(sample.name)}</figcaption></figure>'


def _draw(image: np.ndarray, owners: np.ndarray, labels: list[int], info: DatasetInfo) -> Image.Image:
    return draw_segments(
        image, owners, labels, info, short_side=_SHORT_SIDE, long_side=_DRAWN_SIDE, name_size=_NAME_SIZE
    )


def embed(picture: Image.Image) -> str:
    """Return a picture as a ``data:`` URL (WebP, at most 640 pixels on its longer side)."""
    scale = min(1.0, _LONG_SIDE / max(picture.size))
    if scale < 1.0:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _legend(info: DatasetInfo) -> str:
    entries = []
    for label, name in enumerate(info.classes):
        first, second, third = (tuple(color) for color in segment_colors([label] * 3, info).tolist())
        stripes = f"linear-gradient(to right, rgb{first} 34%, rgb{second} 34% 67%, rgb{third} 67%)"
        entries.append(f'<span><i class="swatch" style="background:{stripes}"></i>{escape(name)}</span>')
    return "".join(entries)
