"""Padding targets to fixed shapes and overwriting them in place changes no loss."""

from __future__ import annotations

import pytest
import torch

from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import SegmentTargets
from maskformer_ext.ops.support.batch_targets import BatchTargets

CLASSES = 4


def make(counts: tuple[int, ...], form: str = "segment map", seed: int = 0) -> BatchTargets:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randint(-1, count, (24, 20), generator=generator, dtype=torch.int32) for count in counts]
    labels = torch.randint(CLASSES, (len(counts), max(counts)), generator=generator)
    targets = SegmentTargets(torch.stack(maps), labels, torch.tensor(counts))
    return targets if form == "segment map" else targets.to_masks()


def losses(targets) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    shapes = (2, 2, 8, CLASSES + 1), (2, 2, 8, 6), (2, 6, 6, 5)
    inputs = [torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]
    total, parts, _ = MaskFormerCriterion(CLASSES)(MaskFormerOutput(*inputs), targets)
    return total, *parts.values(), *torch.autograd.grad(total, inputs)


@pytest.mark.parametrize("form", ["segment map", "masks"])
@pytest.mark.parametrize("counts", [(3, 1), (0, 5), (10, 0)])
def test_padding_changes_no_loss(counts: tuple[int, ...], form: str) -> None:
    targets = make(counts, form)
    padded = targets.pad_to(max_segments=12, max_pairs=30)
    assert padded.labels.shape == (2, 12) and len(padded.pairs()[0]) == 30
    for found, expected in zip(losses(padded), losses(targets), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", ["segment map", "masks"])
def test_overwritten_targets_are_the_new_ones(form: str) -> None:
    static = make((3, 1), form).pad_to(12, 30)
    places = [tensor.data_ptr() for tensor in (static.labels, *static.pairs())]
    new = make((2, 7), form, seed=1)
    assert static.copy_(new.pad_to(12, 30)) is static
    assert [tensor.data_ptr() for tensor in (static.labels, *static.pairs())] == places
    for found, expected in zip(losses(static), losses(new), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_what_does_not_fit_is_named() -> None:
    targets = make((3, 1)).pad_to(5, 10)
    with pytest.raises(ValueError, match=r"pad_to: max_segments must be at least T = 5, got 4"):
        targets.pad_to(4, 10)
    with pytest.raises(ValueError, match=r"pad_to: max_pairs must be at least 4, the segments here, got 3"):
        targets.pad_to(5, 3)
    with pytest.raises(ValueError, match=r"copy_: labels must be \(2, 5\), got \(2, 6\)"):
        targets.copy_(make((3, 1)).pad_to(6, 10))
    with pytest.raises(ValueError, match=r"copy_: image_index must be \(10,\), got \(11,\)"):
        targets.copy_(make((3, 1)).pad_to(5, 11))
    with pytest.raises(ValueError, match=r"copy_: both must carry their pairs"):
        targets.copy_(make((5, 1)))
    with pytest.raises(TypeError, match=r"copy_: other must be SegmentTargets, got MaskTargets"):
        targets.copy_(make((5, 1), "masks").pad_to(5, 10))
