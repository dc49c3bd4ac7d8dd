"""Targets out of range: refused on the CPU, and on a GPU if asked; there otherwise void, and counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from faulty_targets import CLASSES, FAULTS, make_targets, predictions

from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import (
    SegmentTargets,
    linear_sum_assignment,
    matched_mask_loss,
    matching_cost,
    matching_cost_from_embeddings,
    point_mask_loss,
)
from maskformer_ext.ops.support import library, value_checks

pytest.importorskip("timm", reason="the per-pixel models need timm")
from maskformer_ext.modeling.per_pixel import PerPixelCriterion, PerPixelOutput


def by_matching_cost(targets: SegmentTargets) -> None:
    out = predictions(str(targets.device))
    matching_cost(out.class_logits[0], out.mask_logits(0), targets)


def by_matching_cost_from_embeddings(targets: SegmentTargets) -> None:
    out = predictions(str(targets.device))
    matching_cost_from_embeddings(out.class_logits, out.mask_embed, out.mask_features, targets)


def by_matched_mask_loss(targets: SegmentTargets) -> None:
    out = predictions(str(targets.device))
    matched_mask_loss(out.mask_logits()[0, :2], targets, *(index[:2] for index in targets.pairs()))


def by_point_mask_loss(targets: SegmentTargets) -> None:
    image, segment = (index[:2] for index in targets.pairs())
    points = torch.rand(2, 9, 2, device=targets.device)
    point_mask_loss(predictions(str(targets.device)).mask_logits()[0, :2], targets, image, segment, points)


def by_criterion(targets: SegmentTargets) -> None:
    MaskFormerCriterion(CLASSES)(predictions(str(targets.device)), targets)


def by_per_pixel(targets: SegmentTargets) -> None:
    PerPixelCriterion(CLASSES)(PerPixelOutput(torch.randn(2, CLASSES, 4, 4, device=targets.device)), targets)


CALLS = [
    by_matching_cost,
    by_matching_cost_from_embeddings,
    by_matched_mask_loss,
    by_point_mask_loss,
    by_criterion,
    by_per_pixel,
]


@pytest.fixture(params=["cpu", "as on a GPU", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch) -> str:
    """The CPU; the CPU as if its kernels let everything pass, with checks asked for; a GPU with checks asked for."""
    if request.param == "cpu":
        return "cpu"
    monkeypatch.setattr(value_checks, "kernels_refuse", lambda device: False)
    monkeypatch.setattr(value_checks, "CHECKS", True)
    return "cuda" if request.param == "cuda" else "cpu"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_op_names_what_is_out_of_range(fault: str, call: Callable, device: str) -> None:
    if call in (by_matched_mask_loss, by_point_mask_loss) and fault == "label":
        pytest.skip("it reads no labels")
    call(make_targets(device=device))
    with pytest.raises(ValueError, match=FAULTS[fault]) as caught:
        call(make_targets(fault, device))
    if value_checks.CHECKS:
        assert caught.value.__context__ is None, "the kernel must not have been called"


@pytest.mark.parametrize(
    ("image", "segment", "message"),
    [
        ([0, 2], [0, 0], r"image_index must lie in \[-1, 2\), got 2 for mask 1"),
        ([-2, 0], [0, 0], r"image_index must lie in \[-1, 2\), got -2 for mask 0"),
        ([0, 1], [2, 1], r"segment_index must lie in \[-1, 1\) for image 1, got 1 for mask 1"),
        ([-1, -1], [0, -2], r"segment_index must lie in \[-1, 0\) for image -1, got -2 for mask 1"),
    ],
)
def test_pairs_out_of_range_are_named(image: list[int], segment: list[int], message: str, device: str) -> None:
    logits = torch.randn(2, 4, 4, device=device)
    with pytest.raises(ValueError, match=message):
        matched_mask_loss(
            logits, make_targets(device=device), *(torch.tensor(i, device=device) for i in (image, segment))
        )


@pytest.mark.parametrize("count", [-1, 4])
def test_a_number_of_targets_out_of_range_is_named(count: int, device: str) -> None:
    with pytest.raises(ValueError, match=rf"num_targets must lie in \[0, T\] with T = 3, got {count} for problem 1"):
        linear_sum_assignment(torch.rand(2, 5, 3, device=device), torch.tensor([3, count], device=device))


@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
@pytest.mark.parametrize("fault", FAULTS)
def test_references_read_nothing_out_of_bounds_where_nothing_is_checked(fault: str, masks: bool, monkeypatch) -> None:
    """As on a GPU without a kernel; here an index out of bounds would raise."""
    monkeypatch.setattr(library, "REFERENCE", True)
    monkeypatch.setattr(value_checks, "may_read", lambda device: False)
    segments = make_targets(fault)
    targets = segments.to_masks() if masks else segments
    out = predictions()
    image, segment = torch.tensor([0, 7, 1, -3, 0, 1]), torch.tensor([2, 0, 3, 0, -9, 0])
    found = [matching_cost(out.class_logits[0], out.mask_logits(0), targets)]
    found += matched_mask_loss(out.mask_logits()[0], targets, image, segment)
    if not masks:
        found.append(PerPixelCriterion(CLASSES)(PerPixelOutput(torch.randn(2, CLASSES, 4, 4)), targets)[0])
    assert all(part.isfinite().all() for part in found)
    assert found[1].nonzero().flatten().tolist() == [0, 5], "only these pairs exist"


def test_the_variable_is_read_at_import() -> None:
    code = "from maskformer_ext.ops.support import value_checks; print(value_checks.CHECKS)"
    for value, expected in (("1", "True"), ("0", "False")):
        environment = {**os.environ, "MASKFORMER_EXT_CHECKS": value}
        assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == expected


def test_values_may_be_read_where_it_is_free_or_asked_for(monkeypatch) -> None:
    host, device = torch.device("cpu"), torch.device("cuda")
    recording = False
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recording)
    for asked in (False, True):
        monkeypatch.setattr(value_checks, "CHECKS", asked)
        assert (value_checks.may_read(host), value_checks.may_read(device)) == (True, asked)
    recording = True
    assert value_checks.may_read(host) and not value_checks.may_read(device), "a recorded step cannot wait"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not value_checks.may_read(host)


def test_pairs_of_wrong_counts_are_refused_on_every_device() -> None:
    targets = SegmentTargets(torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 2).long(), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"pairs: num_segments must lie in \[0, T\] with T = 2, got \[3\]"):
        targets.pairs()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_out_of_range_is_counted(fault: str) -> None:
    assert int(value_checks.count_invalid(make_targets(fault))) == (
        fault != "label"
    )  # labels are the criterion's to count


@pytest.mark.gpu
@pytest.mark.parametrize("criterion", ["masks", "pixels"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_gpu_counts_them_and_goes_on(fault: str, criterion: str) -> None:
    targets = make_targets(fault, "cuda")
    if criterion == "masks":
        total, _, stats = MaskFormerCriterion(CLASSES)(predictions("cuda"), targets)
    else:
        logits = torch.randn(2, CLASSES, 4, 4, device="cuda")
        total, _, stats = PerPixelCriterion(CLASSES)(PerPixelOutput(logits), targets)
    assert total.isfinite()
    assert int(stats["invalid_targets"]) >= 1
