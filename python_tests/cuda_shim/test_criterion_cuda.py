"""Matching and losses together, by the kernels and the Python that a GPU would run, on values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from conftest import DEVICE, SHIM, cuda_kernels_only
from test_invalid_targets import CLASSES, FAULTS, make_targets, predictions
from torch import Tensor

from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops.mask_loss import gradient_from_maps, save_gradient_maps
from maskformer_ext.ops.support import library, value_checks


@pytest.fixture(scope="module", autouse=True)
def differentiable() -> Iterator[None]:
    """Give the stand-in's loss the gradient that the real op has."""
    if SHIM is None:
        yield
        return
    with torch.library._scoped_library("maskformer_ext_shim", "FRAGMENT") as library:
        torch.library.register_autograd(
            "maskformer_ext_shim::matched_mask_loss",
            gradient_from_maps,
            setup_context=save_gradient_maps,
            lib=library,
        )
        yield


@pytest.fixture
def as_on_a_gpu(shim, monkeypatch) -> None:
    """Put the stand-in's kernels in the place of the CPU's; what has none runs as on a GPU, and no value is read."""
    if SHIM is None:
        return
    prefix = "maskformer_ext_shim::"
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    names = frozenset(name.removeprefix(prefix) for name in registered if name.startswith(prefix))
    assert {"matching_cost", "matched_mask_loss", "linear_sum_assignment"} <= names
    monkeypatch.setitem(library._KERNELS, "cpu", names)
    for name in names:
        if hasattr(torch.ops.maskformer_ext, name):
            monkeypatch.setattr(torch.ops.maskformer_ext, name, getattr(shim, name))
    monkeypatch.setattr(value_checks, "may_read", lambda device: False)


def losses(targets, device: str) -> tuple[list[Tensor], int]:
    """Return every loss and the gradients of the total, and the number of invalid targets, computed on a device."""
    made = predictions()
    inputs = [x.to(device).requires_grad_() for x in (made.class_logits, made.mask_embed, made.mask_features)]
    total, parts, stats = MaskFormerCriterion(CLASSES)(MaskFormerOutput(*inputs), targets.to(device))
    found = [*parts.values(), *torch.autograd.grad(total, inputs)]
    return [part.cpu() for part in found], int(stats["invalid_targets"])


@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
def test_the_criterion_equals_the_cpus(masks: bool, request) -> None:
    targets = make_targets()
    targets = targets.to_masks().with_pairs() if masks else targets
    expected, _ = losses(targets, "cpu")
    request.getfixturevalue("as_on_a_gpu")
    found, invalid = losses(targets, DEVICE)
    assert invalid == 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@cuda_kernels_only
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_out_of_range_is_void_and_counted(fault: str, as_on_a_gpu) -> None:
    parts, invalid = losses(make_targets(fault), DEVICE)
    assert invalid == 1 and all(part.isfinite().all() for part in parts)


@cuda_kernels_only
@pytest.mark.parametrize("pair", [(7, 0), (0, 99), (1, 1)], ids=["image", "segment", "beyond the image's segments"])
def test_pairs_that_do_not_exist_are_left_out(pair: tuple[int, int], as_on_a_gpu) -> None:
    targets = make_targets()
    for index, value in zip(targets.pairs(), pair, strict=True):
        index[3] = value  # of four
    parts, invalid = losses(targets, DEVICE)
    assert invalid == 1 and all(part.isfinite().all() for part in parts)
