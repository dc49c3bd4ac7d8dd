"""The results page: valid, self-contained, small, and it says what the metrics say. Pictures: who gets which colour."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene
from PIL import Image

from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.engine.report import write_report
from maskformer_ext.engine.report_pictures import embed, picture_section
from maskformer_ext.evaluation.run import evaluate
from maskformer_ext.pictures.charts import Series, line_chart
from maskformer_ext.pictures.segments import add_legend, draw_errors, draw_segments, outline, segment_colors

INFO = DatasetInfo(
    "boxes <&> tiles", ("ground", "box <b>", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=(1, 2)
)
_VOID_TAGS = {"meta", "img", "br", "line", "circle", "polyline", "link", "input"}


class _Painted:
    info = INFO

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        segments, labels = scene((48, 64), things=5, seed=index)
        image = torch.from_numpy(paint(segments, labels)).permute(2, 0, 1)
        return Sample(image, torch.from_numpy(segments - 1).int(), torch.tensor(labels), f"<image {index}>", (48, 64))


class _Page(HTMLParser):
    """Collect tags, texts and addresses; fail where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attributes) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data")]
        if tag not in _VOID_TAGS:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


def _config(task: str = "panoptic") -> Config:
    config = Config(name="painted", model=ModelConfig(num_classes=3))
    config.data.task = task
    return config


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_the_page_is_valid_self_contained_and_holds_the_scores(tmp_path: Path, task: str) -> None:
    config, model = _config(task), PaintModel(3, limit=4)
    metrics = evaluate(model, _Painted(), config)
    records = [{"iteration": 0, "kind": "eval", "mIoU": 0.1, "PQ": 0.0}]
    records += [{"iteration": i, "kind": "train", "loss": 9 / i, "loss_ce": 3 / i, "lr": 1e-4} for i in (20, 40, 60)]
    records = [{**record, "loss_giou": 0.5, "loss_giou_0": 0.5} if "loss" in record else record for record in records]
    records += [{"iteration": 60, "kind": "eval", **{k: v for k, v in metrics.items() if isinstance(v, float)}}]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, records)) + '\n{"iteration": 80, "los')
    untrained = {"mIoU": 0.0123, "PQ": 0.0045, "AP": 0.0067}
    full = {**metrics, "untrained": untrained, "training": {"seconds": 75.0, "iterations": 60}}
    path = write_report(tmp_path, model=model, dataset=_Painted(), config=config, metrics=full, num_pictures=3)

    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.stack == []
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?://|@import|url\(|<script", text)
    assert path.stat().st_size < 4_000_000
    words = " ".join(page.text)
    for key in ("mIoU", "PQ", "AP"):
        if key in metrics:
            assert f"{metrics[key]:.3f}" in words
            assert f"untrained {untrained[key]:.3f}" in words
    assert "boxes <&> tiles" in words and "box <b>" in words and "0:01:15" in words
    assert page.count["svg"] >= 3
    assert "giou" in text and "giou_0" not in text  # every loss of the last layer, whatever its name
    columns = {"panoptic": 5, "semantic": 4, "instance": 3}[task]
    assert page.count["img"] == 3 * columns
    first = next(address for address in page.addresses if address.startswith("data:image/webp"))
    with Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))) as picture:
        assert picture.size == (64 * 8, 48 * 8)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("size", [(2, 3000), (1500, 1), (1, 1)])
@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_pictures_of_the_page_are_small_whatever_the_image(size: tuple[int, int], task: str) -> None:
    class Thin(_Painted):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(
                sample,
                image=torch.zeros((3, *size), dtype=torch.uint8),
                segment_map=torch.zeros(size, dtype=sample.segment_map.dtype),
            )

    section = picture_section(PaintModel(3), Thin(), _config(task), 1)
    addresses = re.findall(r"base64,([A-Za-z0-9+/=]+)", section)
    assert len(addresses) >= 3
    for address in addresses:
        with Image.open(io.BytesIO(base64.b64decode(address))) as picture:
            assert max(picture.size) <= 640
    assert embed(Image.new("RGB", (1, 5000))).startswith("data:image/webp")


def test_the_page_needs_no_history_and_no_untrained_scores(tmp_path: Path) -> None:
    metrics = evaluate(PaintModel(3), _Painted(), _config())
    path = write_report(
        tmp_path, model=PaintModel(3), dataset=_Painted(), config=_config(), metrics=metrics, num_pictures=1
    )
    assert "<svg" not in path.read_text(encoding="utf-8")


def test_charts_show_every_finite_point_and_need_two() -> None:
    chart = line_chart([Series("a", [(0, 1.0), (10, float("nan")), (20, 3.0)])], label="a & b")
    points = re.search(r'points="([^"]*)"', chart)
    assert points is not None and len(points[1].split()) == 2
    assert "a &amp; b" in chart
    assert line_chart([Series("a", [(5, 1.0)])], label="one point") == ""
    assert line_chart([], label="nothing") == ""
    assert line_chart([Series("a", [(0, 0.0), (1, -1.0)])], label="no logarithm", log=True) == ""
    flat = line_chart([Series("a", [(0, 2.0), (1, 2.0)])], label="constant")
    assert "nan" not in flat and "inf" not in flat


def test_instances_of_a_class_have_different_colors_and_stuff_has_its_own() -> None:
    colors = segment_colors([0, 1, 1, 1, 2, 2], INFO)
    assert colors[0].tolist() == [90, 90, 90]
    things = [tuple(color) for color in colors[1:].tolist()]
    assert len(set(things)) == 5
    many = segment_colors([1] * 40, INFO)
    assert len({tuple(color) for color in many.tolist()}) == 40


def test_outlines_lie_inside_segments_at_their_borders() -> None:
    owners = np.full((8, 8), -1)
    owners[2:6, 2:6] = 0
    expected = np.zeros((8, 8), dtype=bool)
    expected[2:6, 2:6] = True
    expected[3:5, 3:5] = False
    np.testing.assert_array_equal(outline(owners), expected)


def test_void_pixels_stay_as_they_are_and_small_images_grow() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    owners = np.full((20, 30), -1)
    owners[5:15, 5:15] = 0
    plain = np.asarray(draw_segments(image, owners, [1], INFO, names=False))
    np.testing.assert_array_equal(plain[owners < 0], image[owners < 0])
    assert (plain[owners == 0] != image[owners == 0]).any()
    drawn = draw_segments(image, owners, [1], INFO, short_side=200)
    assert drawn.size == (300, 200)
    assert add_legend(drawn, [1], INFO).height > 200
    assert add_legend(drawn, [], INFO).width == 300


def test_errors_are_red_and_unknown_pixels_dark() -> None:
    image = np.full((1, 3, 3), 128, dtype=np.uint8)
    red, grey, dark = np.asarray(draw_errors(image, np.array([[0, 1, 0]]), np.array([[1, 1, 255]]), 255))[0].astype(int)
    assert red[0] > 150 > red[1] and grey[0] == grey[1] == grey[2] and dark.max() < grey.min()
