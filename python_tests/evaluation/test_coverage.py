"""Scores say which classes their truth never held."""

from __future__ import annotations

import pytest

from maskformer_ext.evaluation.coverage import absent_classes, describe_coverage
from maskformer_ext.evaluation.score_table import print_scores

_SEEN, _UNSEEN = {"IoU": 1.0, "ACC": 1.0, "pixels": 9}, {"IoU": None, "ACC": None, "pixels": 0}


@pytest.mark.parametrize(
    ("per_class", "absent"),
    [
        ({"a": _SEEN, "b": _SEEN}, []),
        ({"a": _SEEN, "b": _UNSEEN}, ["b"]),
        ({"a": _SEEN, "b": {"IoU": 0.0, "ACC": None, "pixels": 0}}, ["b"]),  # predicted, but never true
        ({"a": {"AP": 0.5}, "b": {"AP": None}}, ["b"]),
        ({"a": {"PQ": None, "AP": 0.0}, "b": {"PQ": 0.0, "AP": None}}, []),
        ({"a": {"PQ": None}, "b": {"PQ": None}}, ["a", "b"]),
        ({}, []),
    ],
)
def test_classes_that_the_truth_never_held(per_class: dict, absent: list[str]) -> None:
    assert absent_classes({"per_class": per_class}, ("a", "b")) == absent
    text = describe_coverage({"per_class": per_class}, ("a", "b"))
    assert (text is None) == (not absent)
    assert text is None or text == f"the truth holds {2 - len(absent)} of 2 classes, never {', '.join(absent)}"


def test_printed_scores_say_so(capsys) -> None:
    metrics = {"mIoU": 1.0, "per_class": {"a": _SEEN, "b": _UNSEEN}, "images": 1, "seconds": 0.1}
    print_scores(metrics, ("a", "b"))
    assert "the truth holds 1 of 2 classes, never b" in capsys.readouterr().out
