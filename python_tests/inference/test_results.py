"""Results as objects: their segments, classes, image, times and how they show themselves."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from paint import THINGS, PaintModel, paint, scene
from painted_results import PAINTED, TASKS, painted
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference import Instances, PanopticResult, Segment, SemanticResult, segment, segment_tasks
from maskformer_ext.inference.results import InstanceResult, Times, as_result

_VIEWS = {"tta": True, "tta_min_sizes": (40,)}

pytestmark = pytest.mark.filterwarnings("ignore:segment. the model's weights are untrained")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("options", [{}, {"tile": 24}])
def test_segments_say_what_was_painted(task: str, options: dict) -> None:
    result, segments, labels = painted(task, **options)
    parts = [part for part in result if part.score is None or part.score > 0.5]
    if task == "semantic":
        classes = np.array([0, *labels])[segments]
        expected = {(label, (classes == label).tobytes()) for label in set(labels)}
    else:
        numbers = [n for n, label in enumerate(labels, 1) if task == "panoptic" or label in THINGS]
        expected = {(labels[n - 1], (segments == n).tobytes()) for n in numbers}
    assert {(part.label, part.mask.tobytes()) for part in parts} == expected
    for part in parts:
        rows, columns = np.nonzero(part.mask)
        assert part.mask.dtype == bool and part.mask.shape == result.size == (40, 56)
        assert part.area == len(rows) and part.share == len(rows) / (40 * 56)
        assert part.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert part.name == result.names[part.label] == PAINTED.classes[part.label]
        assert part.is_thing == (part.label in THINGS)
        assert (part.score is None) == (task == "semantic")


def test_fields_and_kinds_are_those_of_before() -> None:
    semantic, panoptic, instances = (painted(task)[0] for task in TASKS)
    assert isinstance(semantic, SemanticResult) and semantic.class_map.dtype == torch.int64
    assert isinstance(panoptic, PanopticResult) and panoptic.segment_map.dtype == torch.int32
    assert set(panoptic.segments_info[0]) == {"id", "category_id", "isthing", "score", "area"}
    assert isinstance(instances, Instances) and instances.masks.shape == (len(instances), 40, 56)
    assert instances.boxes.shape == (len(instances.labels), 4) and "counts" in instances.rle()[0]
    assert SemanticResult(semantic.class_map).size == (40, 56)
    assert len(PanopticResult(panoptic.segment_map, panoptic.segments_info)) == len(panoptic)


def test_numbers_choose_one_and_everything_else_several() -> None:
    instances, _, _ = painted("instance")
    likely = instances[instances.scores > 0.5]
    assert isinstance(likely, InstanceResult) and likely.info is PAINTED and likely.image is instances.image
    assert len(likely) == 6 and len(instances[:2]) == 2 and isinstance(instances[[1, 0]], InstanceResult)
    for index in (1, np.int64(1), torch.tensor(1), 1 - len(instances)):
        assert isinstance(instances[index], Segment) and instances[index].id == 2
    panoptic, _, _ = painted("panoptic")
    assert [part.id for part in panoptic[1:3]] == [panoptic[1].id, panoptic[2].id]
    for result in (panoptic, instances):
        with pytest.raises(IndexError, match=f"there are {len(result)} segments, got the index 99"):
            result[99]


@pytest.mark.parametrize("task", TASKS)
def test_areas_and_shares_are_in_the_line(task: str) -> None:
    result, segments, labels = painted(task, things=3)
    line = repr(result)
    kind = {"semantic": "Semantic", "panoptic": "Panoptic", "instance": "Instance"}[task]
    assert line.startswith(f"<{kind}Result 56x40: ") and line.endswith(" ms>")
    ground = 100 * (segments == 1).mean()
    boxes = labels.count(1)
    assert (f"ground {ground:.0f}%" in line) == (task != "instance")
    assert (f"box x{boxes}, tile x1" in line) == (task != "semantic")


def test_long_lists_and_strange_names_stay_one_short_line() -> None:
    names = ("a\nb\x1b[31m", "x" * 1000, *(f"class {i}" for i in range(30)))
    info = DatasetInfo("many", names, ((1, 2, 3),) * 32)
    result = as_result(SemanticResult(torch.arange(32).repeat(4, 2)), info=info)
    line = repr(result)
    assert line.isprintable() and len(line) < 160 and line.endswith(", 26 more classes>")
    page = as_result(result, info=DatasetInfo("html", ("<script>",) * 32, info.colors))._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "and 12 more" in page


def test_results_without_a_context_have_numbered_classes() -> None:
    assert repr(SemanticResult(torch.tensor([[0, 2], [2, 2]]))) == "<SemanticResult 2x2: class 2 75%, class 0 25%>"
    part = {"id": 4, "category_id": 1, "isthing": True, "score": 0.75, "area": 2}
    panoptic = PanopticResult(torch.tensor([[0, 4], [0, 4]], dtype=torch.int32), [part])
    assert repr(panoptic) == "<PanopticResult 2x2: class 1 x1>" and panoptic[0].box == (1, 0, 2, 2)
    packed = torch.tensor([[[1], [3]]], dtype=torch.uint8)
    bare = Instances(torch.ones(1), torch.tensor([1]), torch.tensor([[0.0, 0, 2, 2]]), packed, (2, 2))
    assert repr(as_result(bare)) == "<InstanceResult 2x2: class 1 x1>" and as_result(bare)[0].area == 3
    with pytest.raises(ValueError, match="does not know its image: give image="):
        panoptic.plot()
    assert panoptic._repr_png_() is None and "plot(image=...)" in panoptic._repr_html_()
    assert panoptic.times is None and panoptic.image is None


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_nothing_found_is_a_result_too(task: str, tmp_path: Path) -> None:
    black = np.zeros((30, 40, 3), np.uint8)
    result = segment(PaintModel(3), black, task=task, info=PAINTED)
    result = result[result.scores > 0.5] if isinstance(result, InstanceResult) else result
    assert len(result) == 0 and list(result) == [] and result.describe() == []
    assert repr(result).startswith(f"<{type(result).__name__} 40x30: nothing, ")
    assert result.to_coco() == [] and result.to_yolo(tmp_path / "a.txt") == [] and result.to_rle() == []
    assert (tmp_path / "a.txt").read_text() == ""
    assert not result.id_map().any()
    assert result.plot().size[0] >= 40 and "<table" not in result._repr_html_()


def test_the_image_is_kept_by_reference() -> None:
    array = np.zeros((30, 40, 3), np.uint8)
    tensor, picture = torch.zeros((3, 30, 40), dtype=torch.uint8), Image.new("RGB", (40, 30))
    for image in (array, tensor, picture):
        assert segment(PaintModel(3), image, info=PAINTED).image is image
    results = segment(PaintModel(3), [array, picture], info=PAINTED)
    assert [result.image for result in results] == [array, picture] or results[0].image is array
    assert [result.context.name for result in results] == ["image_000000", "image_000001"]


def test_classes_come_from_the_argument_the_model_or_their_number() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    model = build_model(tiny_config(num_classes=3)).eval()
    assert segment(model, image).names == ("class 0", "class 1", "class 2")
    model.dataset_info = PAINTED
    assert segment(model, image).info is PAINTED
    other = DatasetInfo("other", ("a", "b", "c"), PAINTED.colors)
    assert segment(model, image, info=other).names == ("a", "b", "c")
    assert segment(model, image, task="panoptic", info=other).info.thing_classes == (0, 1, 2)
    assert segment(model, image, task="panoptic", thing_classes=THINGS).info is PAINTED
    with pytest.raises(ValueError, match="info must name the 3 classes of the model, got 2"):
        segment(model, image, info=DatasetInfo("two", ("a", "b"), ((0, 0, 0),) * 2))


@pytest.mark.parametrize("options", [{}, {"tile": 24}, _VIEWS, {**_VIEWS, "tile": 24}, {"batch_size": 3}])
def test_times_are_kept_for_every_way_through_the_network(options: dict) -> None:
    images = [paint(*scene((40, 56), things=2, seed=seed)) for seed in range(3)]
    for result in segment(PaintModel(3), images, **options):
        times = result.times
        assert isinstance(times, Times) and times.network > 0 and times.reduction >= 0 and times.preprocessing >= 0
        assert times.total == times.preprocessing + times.network + times.reduction
        assert str(times).startswith(f"{times.total:.1f} ms (preprocessing ")


def test_tasks_share_the_network_and_not_the_reduction() -> None:
    image = paint(*scene((40, 56), things=2))
    results = segment_tasks(PaintModel(3), [image], TASKS)[0]
    times = [results[task].times for task in TASKS]
    assert len({one.network for one in times}) == 1 and len({one.reduction for one in times}) == 3


@pytest.mark.parametrize("architecture", ["per_pixel_baseline", "per_pixel_baseline_plus"])
def test_baselines_have_results_too(architecture: str) -> None:
    model = build_model(tiny_config(num_classes=3), architecture=architecture).eval()
    result = segment(model, np.zeros((50, 70, 3), np.uint8), info=PAINTED)
    assert sum(part.area for part in result) == 50 * 70 and result.plot().width >= 70


@pytest.mark.parametrize("task", TASKS)
def test_results_can_be_copied_and_sent(task: str) -> None:
    result, _, _ = painted(task)
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert other.describe() == result.describe() and other.names == result.names
        assert repr(other) == repr(result)
