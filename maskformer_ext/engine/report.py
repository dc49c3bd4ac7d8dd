"""The results page of a run: one HTML file with scores, curves, pictures and configuration, that needs nothing else."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

import maskformer_ext
from maskformer_ext.config import Config
from maskformer_ext.config.load import config_yaml
from maskformer_ext.data.types import DatasetInfo, SampleDataset
from maskformer_ext.engine.progress import format_seconds, last_layer_losses, read_history
from maskformer_ext.engine.report_pictures import picture_section
from maskformer_ext.engine.report_style import STYLE
from maskformer_ext.evaluation.coverage import describe_coverage
from maskformer_ext.files import write_text
from maskformer_ext.pictures.charts import Series, line_chart

RESULTS_FILE = "results.html"
_HEADLINES = ("mIoU", "pACC", "PQ", "SQ", "RQ", "AP", "AP50")
_EXPLAINED = {
    "mIoU": "mean intersection over union",
    "pACC": "pixel accuracy",
    "PQ": "panoptic quality",
    "SQ": "segmentation quality",
    "RQ": "recognition quality",
    "AP": "average precision of masks",
    "AP50": "AP at IoU 0.5",
}
_MAX_CLASS_CARDS = 2
_TELLING_BASELINE = 0.05
_COLUMNS = ("IoU", "ACC", "PQ", "SQ", "RQ", "AP", "AP50")


def write_report(
    output_dir: str | Path,
    *,
    model: nn.Module,
    dataset: SampleDataset,
    config: Config,
    metrics: Mapping[str, Any],
    num_pictures: int = 8,
) -> Path:
    """Write ``results.html`` into the output folder of a run.

    Args:
        output_dir: holds ``history.jsonl``, where there is one; the page is written here.
        model: predicts the pictures.
        dataset: the validation set; its ``info`` gives the classes.
        config: of the run.
        metrics: what ``evaluate`` returned. It may also hold ``untrained``, the scores before training, and
            ``training``, a dict of facts such as ``seconds`` and ``iterations``.
        num_pictures: how many images are shown, evenly spaced over the data set.

    Returns:
        The path of the page.
    """
    folder = Path(output_dir)
    info: DatasetInfo = dataset.info
    history = read_history(folder / "history.jsonl")
    sections = [
        _header(config, info, metrics),
        _scores(metrics, info),
        _curves(history),
        picture_section(model, dataset, config, num_pictures),
        _class_table(metrics.get("per_class", {}), info),
        _usage(folder, metrics, config.model.architecture),
        _configuration(config),
    ]
    title = f"{config.name}: results"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main>{''.join(sections)}{_footer()}</main></body></html>\n"
    )
    path = folder / RESULTS_FILE
    write_text(path, page)
    return path


def _header(config: Config, info: DatasetInfo, metrics: Mapping[str, Any]) -> str:
    model, training = config.model, metrics.get("training", {})
    facts = {"Backbone": model.backbone, "Data": f"{info.name}, {info.num_classes} classes"}
    if model.architecture == "maskformer":
        facts["Queries"] = str(model.num_queries)
    if "images" in metrics:
        facts["Scored on"] = f"{metrics['images']} images"
    if "iterations" in training:
        facts["Trained for"] = f"{training['iterations']} iterations of {config.train.batch_size} images"
    if "seconds" in training:
        facts["Training time"] = format_seconds(training["seconds"])
    if "device" in training:
        facts["Device"] = str(training["device"])
    items = "".join(f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in facts.items())
    names = {"maskformer": "MaskFormer", "per_pixel_baseline": "Per-pixel baseline"}
    heading = f"{names.get(model.architecture, 'Per-pixel baseline, plus')} on {info.name}"
    return f'<h1>{escape(heading)}</h1><div class="facts">{items}</div>'


def _scores(metrics: Mapping[str, Any], info: DatasetInfo) -> str:
    untrained = metrics.get("untrained") or {}
    cards = [_card(name, _EXPLAINED[name], metrics, untrained, name) for name in _HEADLINES if name in metrics]
    things = [info.classes[label] for label in info.thing_classes]
    if len(things) <= _MAX_CLASS_CARDS:
        cards += [
            _card(f"PQ of {name}", "this class alone", metrics, untrained, f"PQ_{name}")
            for name in things
            if f"PQ_{name}" in metrics
        ]
    notes = [
        f"Calling every pixel of every image {key.removeprefix('baseline_all_')} scores PQ {value:.3f}."
        for key, value in metrics.items()
        if key.startswith("baseline_all_") and value >= _TELLING_BASELINE
    ]
    if covered := describe_coverage(metrics, info.classes):
        notes.append(f"{covered[0].upper()}{covered[1:]}.")
    note = f'<p class="note" style="margin-top:14px">{escape(" ".join(notes))}</p>' if notes else ""
    return f'<div class="scores">{"".join(cards)}</div>{note}'


def _card(title: str, meaning: str, metrics: Mapping[str, Any], untrained: Mapping[str, Any], key: str) -> str:
    before = f"untrained {untrained[key]:.3f}" if isinstance(untrained.get(key), float) else meaning
    return (
        f'<div class="score" title="{escape(meaning)}"><div class="name">{escape(title)}</div>'
        f'<div class="value">{metrics[key]:.3f}</div><div class="before">{escape(before)}</div></div>'
    )


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    train = [record for record in history if record.get("kind") == "train"]
    scored = [record for record in history if record.get("kind") == "eval"]
    last_layer = last_layer_losses(dict.fromkeys(key for record in train for key in record))
    charts = [
        ("Loss, weighted sum over layers", line_chart([_series("loss", "loss", train)], label="training loss")),
        (
            "Parts of the loss, last layer, unweighted",
            line_chart([_series(key.removeprefix("loss_"), key, train) for key in last_layer], label="parts", log=True),
        ),
        (
            "Scores on the validation images",
            line_chart(
                [_series(key, key, scored) for key in ("mIoU", "PQ", "AP") if any(key in r for r in scored)],
                label="validation scores",
                bounds=(0.0, 1.0),
            ),
        ),
        ("Learning rate", line_chart([_series("lr", "lr", train)], label="learning rate")),
    ]
    cards = "".join(f'<div class="card"><h3>{escape(title)}</h3>{chart}</div>' for title, chart in charts if chart)
    return f'<h2>Training</h2><div class="charts">{cards}</div>' if cards else ""


def _series(name: str, key: str, records: Sequence[Mapping[str, Any]]) -> Series:
    return Series(name, [(float(r["iteration"]), float(r[key])) for r in records if key in r])


def _class_table(per_class: Mapping[str, Mapping[str, Any]], info: DatasetInfo) -> str:
    columns = [name for name in _COLUMNS if any(scores.get(name) is not None for scores in per_class.values())]
    if not columns:
        return ""
    head = "".join(f"<th>{name}</th>" for name in columns)
    rows = []
    for label, name in enumerate(info.classes):
        cells = "".join(_cell(per_class.get(name, {}).get(column)) for column in columns)
        kind = ' <span class="soft">thing</span>' if label in info.thing_classes else ""
        rows.append(f"<tr><td>{swatch(info.colors[label])}{escape(name)}{kind}</td>{cells}</tr>")
    table = f"<table><thead><tr><th>Class</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Scores of each class</h2><div class="scroll">{table}</div>'


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return '<td class="soft">\u2013</td>'
    return f'<td class="bar" style="--part:{100 * value:.1f}%">{value:.3f}</td>'


def swatch(color: Sequence[int]) -> str:
    """Return a small square of a colour."""
    return f'<i class="swatch" style="background:rgb({color[0]},{color[1]},{color[2]})"></i>'


def _usage(folder: Path, metrics: Mapping[str, Any], architecture: str) -> str:
    model = "MaskFormer" if architecture == "maskformer" else "PerPixelBaseline"
    tasks = [task for task, key in (("semantic", "mIoU"), ("panoptic", "PQ"), ("instance", "AP")) if key in metrics]
    task = "panoptic" if "panoptic" in tasks else (tasks or ["semantic"])[0]
    commands = (
        f"# the scores above, again\nmaskformer-ext evaluate checkpoint={folder}\n\n"
        "# your own images: a file, a folder or a glob\n"
        f"maskformer-ext predict checkpoint={folder} input=images/ output=predictions task={task}"
    )
    code = (
        f"from maskformer_ext import {model}\nfrom maskformer_ext.inference import segment\n\n"
        f'model = {model}.from_pretrained("{folder}")\n'
        f'result = segment(model, "image.jpg", task="{task}")\nresult.save("masks.png")'
    )
    return f"<h2>Use this model</h2><pre>{escape(commands)}</pre><p>In Python:</p><pre>{escape(code)}</pre>"


def _configuration(config: Config) -> str:
    return (
        "<h2>Configuration</h2><details><summary>Everything that the run depends on</summary>"
        f"<pre>{escape(config_yaml(config))}</pre></details>"
    )


def _footer() -> str:
    versions = (
        f"maskformer_ext {maskformer_ext.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    return f"<footer>Written {time.strftime('%Y-%m-%d %H:%M')} by {escape(versions)}.</footer>"
