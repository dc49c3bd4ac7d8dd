"""What `predict` says: what was found in an image, and what came of all of them."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from maskformer_ext.inference.results.summary import summarize
from maskformer_ext.prediction.report import Counts, Report, Steps, summary, total


def _segment(category: str, area: int = 10, *, thing: bool = True, score: float = 0.9) -> dict[str, Any]:
    return {"category": category, "area": area, "isthing": thing, "score": score}


@pytest.mark.parametrize(
    ("task", "segments", "expected"),
    [
        ("semantic", [_segment("sky", 590), _segment("road", 410)], "sky 59%, road 41%"),
        ("semantic", [_segment("sky", 999), _segment("road", 1)], "sky 99%, road <1%"),
        ("semantic", [_segment("sky", 1000)], "sky 100%"),
        ("instance", [_segment("car"), _segment("dog"), _segment("car")], "car x2, dog x1"),
        ("instance", [_segment("car", score=0.4), _segment("dog")], "dog x1"),
        ("instance", [_segment("car", score=0.4)], "nothing above min_score=0.5"),
        ("panoptic", [_segment("road", 300, thing=False), _segment("car"), _segment("car")], "car x2, road 30%"),
        ("panoptic", [_segment("car", score=0.4)], "car x1"),
        ("panoptic", [], "nothing"),
        ("instance", [_segment(name) for name in "abcdefg"], "a x1, b x1, c x1, d x1, e x1, f x1, g x1"),
        ("instance", [_segment(name) for name in "abcdefgh"], "a x1, b x1, c x1, d x1, e x1, f x1, 2 more classes"),
        ("instance", [_segment("a\x1b[31m\nb")], "a\\x1b[31m b x1"),
    ],
)
def test_things_are_counted_and_the_rest_has_its_share(task: str, segments: list[dict[str, Any]], expected) -> None:
    assert summarize(segments, task, 1000, 0.5) == expected


def test_processes_add_up_to_one_summary() -> None:
    first = Counts(images=5, done=3, failed=1, skipped=1, seconds=2.0, times=array("f", [10, 20, 30]))
    second = Counts(images=2, done=2, dropped=4, seconds=2.5, times=array("f", [40, 50]))
    sums = total([json.loads(json.dumps(counts.to_dict())) for counts in (first, second)])
    assert (sums.images, sums.done, sums.failed, sums.lost) == (7, 5, 1, 0)
    assert summary(sums) == (
        "5 images in 2.5 s, 2 images/s, median 30 ms, 1 failed, 1 were done already (resume=true), "
        "4 frames dropped, as they came faster than they were segmented"
    )
    assert summary(Counts()) == "0 images in 0.0 s"
    assert summary(Counts(seconds=3723)) == "0 images in 1:02:03 h"


def test_processes_tell_a_bounded_number_of_times() -> None:
    counts = Counts(times=array("f", range(25_001)))
    assert 5_000 < len(counts.to_dict()["times"]) <= 10_000


def test_the_bar_knows_no_total_where_a_stream_has_none() -> None:
    seen: list[tuple[int, int | None]] = []
    steps = Steps(3, lambda done, total: seen.append((done, total)))
    for number, siblings in ((1, 1), (2, 0), (2, 0), (3, 1)):
        steps.take(number, siblings)
    assert seen == [(1, 3), (2, None), (3, None), (4, 4)]


def test_the_bar_counts_what_other_processes_have_taken() -> None:
    seen: list[tuple[int, int | None]] = []
    steps = Steps(10, lambda done, total: seen.append((done, total)))
    steps.take(4, 1)
    steps.take(7, 1)
    assert seen == [(4, 10), (7, 10)]


def test_a_line_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Report(2).done(1, "a\x1b[2J.png", (30, 40), "nothing", 5.4)
    assert capsys.readouterr().out == "1/2 a\\x1b[2J.png 40x30: nothing (5 ms)\n"
