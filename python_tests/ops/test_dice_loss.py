"""dice_loss against its float64 reference and the golden values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only

from maskformer_ext.ops import dice_loss


def make(shape=(3, 37, 501), target="float", scale=3.0):
    inside = torch.rand(shape) < 0.3
    targets = {
        "float": inside.float(),
        "bool": inside,
        "uint8": inside.to(torch.uint8) * 255,
        "between": torch.rand(shape),
        "bfloat16": inside.bfloat16(),
    }[target]
    return scale * torch.randn(shape), targets


def errors_of(logits, targets, floor=1e-300):
    logits = logits.detach().requires_grad_()
    wide = logits.detach().double().requires_grad_()
    actual = dice_loss(logits, targets)
    expected = dice_loss(wide, targets.double() if targets.is_floating_point() else targets)
    assert actual.dtype == torch.float32
    direction = torch.randn(len(actual))
    (grad,) = torch.autograd.grad(actual, logits, direction)
    (expected_grad,) = torch.autograd.grad(expected, wide, direction.double())
    assert grad.dtype == logits.dtype
    return error(actual, expected, floor), error(grad, expected_grad, floor)


@pytest.mark.parametrize("shape", [(3, 37, 501), (2, 1), (1, 16, 16), (4, 5, 6, 7)], ids=str)
@pytest.mark.parametrize("target", ["float", "bool", "uint8", "between", "bfloat16"])
def test_dice_loss_equals_float64_reference(shape, target):
    assert max(errors_of(*make(shape, target))) <= LARGEST_ERROR


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_dice_loss_computes_half_precision_in_float32(dtype, tolerance):
    logits, targets = make((3, 5, 8))  # small, so that the gradient of float16 is not subnormal
    loss, grad = errors_of(logits.to(dtype), targets)
    assert loss <= LARGEST_ERROR
    assert grad <= tolerance


def test_dice_loss_is_exact_where_the_prediction_is_good():
    targets = torch.rand(2, 64, 64) < 0.3
    assert max(errors_of(torch.where(targets, 16.0, -16.0), targets)) <= LARGEST_ERROR


def test_dice_loss_equals_golden(golden_dir):
    golden = np.load(golden_dir / "criterion.npz")
    logits = torch.from_numpy(golden["elementary/logits"]).requires_grad_()
    targets = torch.from_numpy(golden["elementary/targets"])
    loss = dice_loss(logits, targets, reduction="sum") / 6
    assert loss.item() == pytest.approx(float(golden["elementary/dice_loss_num_masks_6"]), rel=1e-5)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = torch.from_numpy(golden["elementary/dice_loss_grad"])
    assert (grad - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_dice_loss_of_no_masks_and_no_pixels():
    assert dice_loss(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)).shape == (0,)
    assert torch.equal(dice_loss(torch.zeros(2, 0), torch.zeros(2, 0)), torch.zeros(2))


def test_dice_loss_reductions_strides_and_threads():
    logits, targets = make((4, 200, 300))
    each = dice_loss(logits, targets)
    assert torch.equal(dice_loss(logits, targets, reduction="sum"), each.sum())
    assert torch.equal(dice_loss(logits, targets, reduction="mean"), each.mean())
    assert torch.equal(dice_loss(logits.mT.contiguous().mT, targets), each)
    at_thread_counts(lambda: dice_loss(logits, targets))


def test_dice_loss_reference_gradcheck():
    logits, targets = make((3, 4, 5), "between")
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, targets.double()), logits.double().requires_grad_())


def test_dice_loss_is_registered_and_compiles():
    logits, targets = make((3, 40), "bool")
    logits.requires_grad_()
    torch.library.opcheck(torch.ops.maskformer_ext.dice_loss.default, (logits, targets))

    def total(x):
        return dice_loss(x, targets, reduction="mean")

    actual = torch.compile(total, fullgraph=True, backend="aot_eager")(logits)
    assert torch.equal(actual, total(logits))
    assert torch.equal(torch.autograd.grad(actual, logits)[0], torch.autograd.grad(total(logits), logits)[0])


def test_dice_loss_second_derivative_is_refused():
    logits, targets = make((3, 40))
    logits.requires_grad_()
    (grad,) = torch.autograd.grad(dice_loss(logits, targets).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="dice_loss: the native kernel has no second derivative"):
        grad.sum().backward()


def test_dice_loss_errors_name_the_argument():
    logits, targets = make((3, 4, 5))
    with pytest.raises(ValueError, match=r"must be \(N, ...\) of one shape, got \(3, 4, 5\), \(3, 4, 4\)"):
        dice_loss(logits, targets[..., :4])
    with pytest.raises(TypeError, match=r"targets must be bool, uint8 or floating, got torch\.int64"):
        dice_loss(logits, targets.long())


@given(
    shape=st.lists(st.integers(0, 40), min_size=2, max_size=4).map(tuple),
    target=st.sampled_from(["float", "bool", "uint8", "between", "bfloat16"]),
    scale=st.sampled_from([0.0, 1.0, 8.0, 80.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_dice_loss_of_any_shape_equals_float64_reference(shape, target, scale, seed):
    torch.manual_seed(seed)
    errors = errors_of(*make(shape, target, scale), floor=1e-9)  # below that the float64 reference cancels
    assert max(errors) <= LARGEST_ERROR


@native_only
@given(
    value=st.floats(-20, 20, width=32),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    size=st.sampled_from([(16, 16), (1, 1024), (37, 501), (300, 300), (1, 16384), (700, 1024)]),
    target=st.sampled_from([torch.bool, torch.float32]),
)
@settings(max_examples=60, deadline=None)
def test_dice_loss_of_constant_logits_does_not_add_up_rounding(value, share, size, target):
    """Rounding that always goes the same way: sums of many equal floats, one after the other, would show it."""
    torch.manual_seed(0)
    logits, targets = torch.full((2, *size), value), (torch.rand(2, *size) < share).to(target)
    assert max(errors_of(logits, targets, floor=1e-9)) <= LARGEST_ERROR
