"""dice_loss against its float64 reference and the golden values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only

from maskformer_ext.ops import dice_loss


def make(shape=(3, 37, 501), target="float", scale=3.0) -> tuple[torch.Tensor, torch.Tensor]:
    inside = torch.rand(shape) < 0.3
    targets = {
        "float": inside.float(),
        "bool": inside,
        "uint8": inside.to(torch.uint8) * 255,
        "between": torch.rand(shape),
        "bfloat16": inside.bfloat16(),
    }[target]
    return scale * torch.randn(shape), targets


def errors_of(call, logits, targets, floor=1e-300, direction=None):
    """Return the errors of the losses and of their gradient against the float64 reference."""
    logits = logits.detach().requires_grad_()
    wide = logits.detach().double().requires_grad_()
    actual = call(logits, targets)
    expected = dice_loss(wide, targets.double() if targets.is_floating_point() else targets)
    assert actual.dtype == torch.float32
    direction = torch.randn(len(actual)) if direction is None else direction
    (grad,) = torch.autograd.grad(actual, logits, direction)
    (expected_grad,) = torch.autograd.grad(expected, wide, direction.double())
    assert grad.dtype == logits.dtype
    return error(actual, expected, floor), error(grad, expected_grad, floor)


SHAPES = [(3, 37, 501), (2, 1), (1, 16, 16), (4, 5, 6, 7), (3, 17001), (2, 16384), (1, 8196), (5, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", ["float", "bool", "uint8", "between", "bfloat16"])
def test_dice_loss_equals_float64_reference(kernels, shape, target):
    assert max(errors_of(kernels.dice_loss, *make(shape, target))) <= LARGEST_ERROR


@pytest.mark.parametrize("target", ["float", "bool", "bfloat16"])
def test_many_masks(kernels, target):
    shape = (20, 256, 256) if kernels.large else (20, 32, 32)
    assert max(errors_of(kernels.dice_loss, *make(shape, target))) <= LARGEST_ERROR


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("target", ["float", "bool", "bfloat16"])
def test_dice_loss_computes_half_precision_in_float32(kernels, dtype, tolerance, target):
    logits, targets = make((3, 40), target)  # small, so that the gradient of float16 is not subnormal
    loss, grad = errors_of(kernels.dice_loss, logits.to(dtype), targets)
    assert loss <= LARGEST_ERROR
    assert grad <= tolerance
    same = kernels.dice_loss(logits, targets), kernels.dice_loss(logits, targets.double().float())
    assert torch.equal(*same), "a target's dtype changes no loss"


def test_dice_loss_is_exact_where_the_prediction_is_good(kernels):
    targets = torch.rand(3, 64, 64) < 0.3
    logits = torch.where(targets, 16.0, -16.0)
    assert max(errors_of(kernels.dice_loss, logits, targets)) <= LARGEST_ERROR
    logits[1, 7, 7] = torch.nan
    assert kernels.dice_loss(logits, targets).isnan().tolist() == [False, True, False]


def test_views_that_are_not_aligned_or_not_contiguous(kernels):
    logits, targets = make((4, 161), "bool")
    whole_l, whole_t = logits.flatten(), targets.flatten()
    for first_l, first_t in ((1, 0), (0, 1), (4, 4)):
        pair = whole_l[first_l : first_l + 640].view(4, 160), whole_t[first_t : first_t + 640].view(4, 160)
        assert max(errors_of(kernels.dice_loss, *pair)) <= LARGEST_ERROR
    strided = errors_of(kernels.dice_loss, logits[:, ::2], targets[:, ::2], direction=torch.randn(8)[::2])
    assert max(strided) <= LARGEST_ERROR
    assert max(errors_of(kernels.dice_loss, logits.mT, targets.mT)) <= LARGEST_ERROR


def test_the_native_op_reads_views_as_they_are(kernels):
    logits, targets = make((4, 41), "bool")
    loss, coefficients = kernels.native.dice_loss(logits.mT, targets.mT)
    grad = torch.randn(82)[::2]
    found = kernels.native.dice_loss_backward(grad, logits.mT, targets.mT, coefficients)
    wide = logits.mT.double().requires_grad_()
    expected = dice_loss(wide, targets.mT)
    assert found.is_contiguous() and error(loss, expected) <= LARGEST_ERROR
    assert error(found, torch.autograd.grad(expected, wide, grad.double())[0]) <= LARGEST_ERROR


@pytest.mark.parametrize("shape", [(0, 9), (3, 0), (0, 0)], ids=str)
def test_empty(kernels, shape):
    logits, targets = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    loss, coefficients = kernels.native.dice_loss(logits, targets)
    with kernels.of_the_cpu():
        expected = torch.ops.maskformer_ext.dice_loss(logits, targets)
    assert torch.equal(loss, expected[0]) and torch.equal(coefficients, expected[1])
    assert kernels.native.dice_loss_backward(torch.ones(shape[0]), logits, targets, coefficients).shape == shape


def test_the_native_op_refuses_shapes_that_differ(kernels):
    with pytest.raises(RuntimeError, match="mask_logits and targets must have the same shape"):
        kernels.native.dice_loss(torch.zeros(2, 3), torch.zeros(2, 4))


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


def test_dice_loss_compiles_with_gradients():
    logits, targets = make((3, 40), "bool")
    logits.requires_grad_()

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
    errors = errors_of(dice_loss, *make(shape, target, scale), floor=1e-9)  # below that the float64 reference cancels
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
    assert max(errors_of(dice_loss, logits, targets, floor=1e-9)) <= LARGEST_ERROR
