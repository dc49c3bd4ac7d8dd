"""`evaluate`: a model that knows the answer scores 1; tasks, limits, damaged images and several processes."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene

from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo, Sample, Truth
from maskformer_ext.errors import UserError
from maskformer_ext.evaluation.run import Scorers, evaluate, tasks_of

INFO = DatasetInfo("painted", ("ground", "box", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=(1, 2))


@dataclass
class Painted:
    """Painted scenes; those listed in ``damaged`` cannot be read."""

    sizes: tuple[tuple[int, int], ...] = ((40, 50), (40, 50), (31, 64), (50, 40), (64, 64))
    damaged: tuple[int, ...] = ()
    info: DatasetInfo = INFO

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        if index in self.damaged:
            raise UserError(f"image {index} is damaged")
        segments, labels = scene(self.sizes[index], things=5, seed=index)
        image = torch.from_numpy(paint(segments, labels)).permute(2, 0, 1)
        segment_map = torch.from_numpy(segments - 1).int()
        return Sample(image, segment_map, torch.tensor(labels), f"image {index}", self.sizes[index])


def _config(**data) -> Config:
    config = Config()
    config.data.task = "panoptic"
    for key, value in data.items():
        setattr(config.data, key, value)
    return config


@pytest.mark.parametrize("tile", [0, 32])
def test_a_model_that_knows_the_answer_scores_one(tile: int) -> None:
    config = _config()
    config.inference.tile = tile
    done = []
    metrics = evaluate(PaintModel(3, size_divisibility=8), Painted(), config, progress=lambda *a: done.append(a))
    expected = (
        "mIoU",
        "fwIoU",
        "mACC",
        "pACC",
        "PQ_semantic",
        "PQ",
        "SQ",
        "RQ",
        "PQ_things",
        "PQ_stuff",
        "AP",
        "AP50",
        "AP75",
        "PQ_box",
    )
    assert {key: metrics[key] for key in expected} == pytest.approx(dict.fromkeys(expected, 1.0))
    assert metrics["images"] == 5
    assert done == [(index, 5) for index in range(1, 6)]
    assert metrics["per_class"]["box"]["IoU"] == 1.0
    assert metrics["per_class"]["ground"]["AP"] is None


def test_what_the_model_misses_lowers_the_scores() -> None:
    metrics = evaluate(PaintModel(3, limit=4), Painted(), _config())  # of five things, numbers 2 to 6, two are missing
    assert metrics["PQ_things"] < metrics["AP"] + 0.35 < 1.0
    assert metrics["RQ_things"] == pytest.approx(
        np.mean([metrics["per_class"][name]["RQ"] for name in ("box", "tile")])
    )
    tp = sum(metrics["per_class"][name]["TP"] for name in ("box", "tile"))
    fn = sum(metrics["per_class"][name]["FN"] for name in ("box", "tile"))
    assert (tp, fn) == (15, 10)


def test_the_constant_baseline_is_that_of_calling_everything_ground() -> None:
    data = Painted()
    metrics = evaluate(PaintModel(3), data, _config())
    share = np.mean([float((sample.segment_map == 0).float().mean()) for sample in (data[i] for i in range(5))])
    assert metrics["baseline_all_ground"] == pytest.approx(share / 3)


def test_limit_scores_the_first_images_only() -> None:
    assert evaluate(PaintModel(3), Painted(), _config(), limit=2)["images"] == 2


def test_damaged_images_stop_the_evaluation_or_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    data = Painted(damaged=(1,))
    with pytest.raises(UserError, match="image 1 is damaged"):
        evaluate(PaintModel(3), data, _config())
    metrics = evaluate(PaintModel(3), data, _config(on_error="skip"))
    assert (metrics["images"], metrics["skipped"], metrics["PQ"]) == (4, 1, 1.0)
    assert caplog.messages == ["skipped: image 1 is damaged"]
    with pytest.raises(UserError, match="none of the 5 images"):
        evaluate(PaintModel(3), Painted(damaged=tuple(range(5))), _config(on_error="skip"))


def test_crowds_are_scored_as_crowds() -> None:
    """The model finds nothing but ground on the crowd: it misses pixels of a class, but no thing."""

    class Crowded(Painted):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            last = len(sample.labels) - 1
            truth = Truth(sample.segment_map, sample.labels, torch.arange(last + 1) == last)
            segment_map = torch.where(sample.segment_map == last, -1, sample.segment_map)
            return replace(sample, segment_map=segment_map, labels=sample.labels[:-1], truth=truth)

    metrics = evaluate(PaintModel(3, limit=5), Crowded(), _config())  # of five things the last is not seen
    assert metrics["PQ_things"] == metrics["AP"] == 1.0
    assert metrics["mIoU"] < 1.0
    perfect = evaluate(PaintModel(3), Crowded(), _config())  # who takes a crowd for a thing loses nothing by it
    assert perfect["PQ_things"] == perfect["AP"] == perfect["mIoU"] == 1.0


@pytest.mark.parametrize("world", [2, 3, 7])  # of 5 images: uneven parts, and processes without an image
def test_processes_together_score_as_one(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    model, data = PaintModel(3, limit=4), Painted()
    sent: list = [None] * world
    barrier, local = threading.Barrier(world), threading.local()

    def gather(states: list, own: object) -> None:
        sent[local.rank] = own
        barrier.wait()
        states[:] = sent

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    results: list = [None] * world

    def work(rank: int) -> None:
        local.rank = rank
        results[rank] = evaluate(model, data, _config(), rank=rank, world=world)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = evaluate(model, data, _config())
    for metrics in results:
        for key in ("mIoU", "PQ_semantic", "PQ", "AP", "AP_small", "baseline_all_ground", "images"):
            assert metrics[key] == pytest.approx(expected[key]), key


@pytest.mark.parametrize(
    ("task", "things", "architecture", "named", "expected"),
    [
        ("semantic", (), "maskformer", [], ["semantic"]),
        ("semantic", (1,), "maskformer", [], ["semantic"]),
        ("instance", (1,), "maskformer", [], ["instance"]),
        ("panoptic", (1,), "maskformer", [], ["semantic", "instance", "panoptic"]),
        ("panoptic", (1,), "maskformer", ["panoptic"], ["panoptic"]),
        ("panoptic", (1,), "per_pixel_baseline", [], ["semantic"]),
    ],
)
def test_tasks_follow_from_data_and_model(task, things, architecture, named, expected) -> None:
    config = _config(task=task)
    config.model.architecture, config.inference.tasks = architecture, named
    info = DatasetInfo("some", ("a", "b"), ((0, 0, 0), (9, 9, 9)), things)
    assert tasks_of(config, info) == expected


def test_impossible_evaluations_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="holds no images"):
        evaluate(PaintModel(3), Painted(sizes=()), _config())
    with pytest.raises(UserError, match="knows 7 classes, but painted has 3"):
        evaluate(PaintModel(7), Painted(), _config())
    config = _config()
    config.inference.tasks, config.model.architecture = ["panoptic"], "per_pixel_baseline"
    with pytest.raises(UserError, match="per_pixel_baseline can do semantic only"):
        evaluate(PaintModel(3), Painted(), config)


def test_scores_that_are_not_known_are_left_out() -> None:
    scorers = Scorers(["semantic", "panoptic", "instance"], INFO, _config())
    metrics = scorers.compute()
    assert set(metrics) == {"per_class"}
    assert not any(isinstance(v, float) and math.isnan(v) for s in metrics["per_class"].values() for v in s.values())
