"""sigmoid_focal_loss against torchvision's, its float64 reference and the golden values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only

from maskformer_ext.ops import sigmoid_focal_loss
from maskformer_ext.ops.sigmoid_focal_loss import focal_reference


def make(shape=(3, 5001), between=False, dtype=torch.float32, scale=6.0):
    targets = torch.rand(shape) if between else (torch.rand(shape) < 0.3).float()
    return (scale * torch.randn(shape)).to(dtype), targets.to(dtype)


def errors_of(inputs, targets, *weights, call=sigmoid_focal_loss, floor=1e-300):
    inputs = inputs.detach().requires_grad_()
    wide = inputs.detach().double().requires_grad_()
    actual = call(inputs, targets, *weights)
    expected = sigmoid_focal_loss(wide, targets.double(), *weights)
    assert actual.dtype == inputs.dtype
    direction = torch.randn(actual.shape).to(actual)
    (grad,) = torch.autograd.grad(actual, inputs, direction)
    (expected_grad,) = torch.autograd.grad(expected, wide, direction.double())
    return error(actual, expected, floor), error(grad, expected_grad, floor)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("alpha", [0.25, -1.0, 0.9])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.5, 0.5])
def test_sigmoid_focal_loss_equals_float64_reference(kernels, gamma, alpha, between, reduction):
    pair = make(between=between)
    assert max(errors_of(*pair, alpha, gamma, reduction, call=kernels.sigmoid_focal_loss)) <= LARGEST_ERROR


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (16,), (17,), (2, 3, 1025)], ids=str)
def test_sigmoid_focal_loss_of_any_shape(kernels, shape):
    inputs, targets = make(shape)
    expected = sigmoid_focal_loss(inputs.double(), targets.double())
    torch.testing.assert_close(kernels.sigmoid_focal_loss(inputs, targets), expected.float())
    total = kernels.sigmoid_focal_loss(inputs, targets, reduction="sum")
    assert total.item() == pytest.approx(expected.sum().item(), rel=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.5])
def test_sigmoid_focal_loss_computes_half_precision_in_float32(kernels, gamma, reduction, dtype, tolerance):
    pair = make((4, 50), between=True, dtype=dtype, scale=3.0)
    assert max(errors_of(*pair, 0.25, gamma, reduction, call=kernels.sigmoid_focal_loss)) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.5])
def test_the_native_op_and_its_gradient_equal_the_cpus(kernels, dtype, gamma):
    inputs, targets = torch.randn(3, 6001).to(dtype), torch.rand(3, 6001).to(dtype)
    grad = torch.randn(3, 6001).to(dtype)
    tolerance = 2e-6 if dtype == torch.float32 else 8e-3
    ours, cpus = kernels.native, torch.ops.maskformer_ext
    for reduction in (0, 1, 2):  # none, mean, sum
        arguments = (inputs, targets, 0.25, gamma, reduction)
        found = ours.sigmoid_focal_loss(*arguments)
        with kernels.of_the_cpu():
            assert error(found, cpus.sigmoid_focal_loss(*arguments)) <= tolerance
    for incoming in (grad, grad[0, 0]):
        backward = (incoming, inputs, targets, 0.25, gamma)
        found = ours.sigmoid_focal_loss_backward(*backward)
        with kernels.of_the_cpu():
            assert error(found, cpus.sigmoid_focal_loss_backward(*backward)) <= tolerance


def test_sigmoid_focal_loss_gives_the_same_bits_again(kernels):
    inputs, targets = make((3, 50_001), between=True, scale=3.0)
    for reduction in ("none", "mean", "sum"):
        first, second = (kernels.sigmoid_focal_loss(inputs, targets, reduction=reduction) for _ in range(2))
        assert torch.equal(first, second)


def test_sigmoid_focal_loss_equals_torchvision():
    torchvision = pytest.importorskip("torchvision")
    inputs, targets = make(between=True)
    inputs, targets = inputs.double(), targets.double()
    for weights in ((0.25, 2.0, "none"), (-1, 1.5, "mean"), (0.9, 0.0, "sum")):
        expected = torchvision.ops.sigmoid_focal_loss(inputs, targets, *weights)
        torch.testing.assert_close(sigmoid_focal_loss(inputs, targets, *weights), expected)
        torch.testing.assert_close(sigmoid_focal_loss(inputs.float(), targets.float(), *weights), expected.float())


def test_sigmoid_focal_loss_equals_golden(golden_dir):
    golden = np.load(golden_dir / "criterion.npz")
    logits = torch.from_numpy(golden["elementary/logits"]).requires_grad_()
    targets = torch.from_numpy(golden["elementary/targets"])
    loss = sigmoid_focal_loss(logits, targets).mean(1).sum() / 6
    assert loss.item() == pytest.approx(float(golden["elementary/focal_loss_num_masks_6"]), rel=1e-5)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = torch.from_numpy(golden["elementary/focal_loss_grad"])
    assert (grad - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_sigmoid_focal_loss_takes_any_strides_and_threads():
    inputs, targets = make((300, 400))
    expected = sigmoid_focal_loss(inputs, targets)
    assert torch.equal(sigmoid_focal_loss(inputs.mT.contiguous().mT, targets), expected)
    at_thread_counts(lambda: sigmoid_focal_loss(inputs, targets, reduction="sum"))


def test_sigmoid_focal_loss_has_a_gradient_for_targets():
    inputs, targets = make((4, 5), between=True)
    targets.requires_grad_()
    sigmoid_focal_loss(inputs, targets, reduction="sum").backward()
    assert targets.grad.abs().min() > 0


def test_sigmoid_focal_loss_reference_gradcheck():
    inputs, targets = make((3, 7), between=True, dtype=torch.float64, scale=2.0)
    for gamma in (2.0, 0.0, 0.5):
        assert torch.autograd.gradcheck(
            lambda x, g=gamma: sigmoid_focal_loss(x, targets, gamma=g), inputs.requires_grad_()
        )


def test_sigmoid_focal_loss_compiles_with_gradients():
    inputs, targets = make((3, 40))
    inputs.requires_grad_()

    def total(x):
        return sigmoid_focal_loss(x, targets, reduction="mean")

    actual = torch.compile(total, fullgraph=True, backend="aot_eager")(inputs)
    assert torch.equal(actual, total(inputs))
    assert torch.equal(torch.autograd.grad(actual, inputs)[0], torch.autograd.grad(total(inputs), inputs)[0])


def test_sigmoid_focal_loss_second_derivative_is_refused():
    inputs, targets = make((3, 40))
    inputs.requires_grad_()
    (grad,) = torch.autograd.grad(sigmoid_focal_loss(inputs, targets).sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="sigmoid_focal_loss: the native kernel has no second derivative"):
        grad.sum().backward()


def test_sigmoid_focal_loss_errors_name_the_argument():
    inputs, targets = make((3, 4))
    with pytest.raises(ValueError, match=r"targets must have the shape of inputs, \(3, 4\), got \(2, 4\)"):
        sigmoid_focal_loss(inputs, targets[:2])
    with pytest.raises(TypeError, match=r"targets must have a floating dtype, got torch\.bool"):
        sigmoid_focal_loss(inputs, targets.bool())
    with pytest.raises(ValueError, match="reduction must be one of none, mean, sum, got 'max'"):
        sigmoid_focal_loss(inputs, targets, reduction="max")


@given(
    shape=st.lists(st.integers(0, 40), max_size=4).map(tuple),
    alpha=st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.9, 1.0]),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]),
    scale=st.sampled_from([0.0, 1.0, 8.0, 80.0]),
    between=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_sigmoid_focal_loss_of_any_input_equals_float64_reference(shape, alpha, gamma, scale, between, seed):
    torch.manual_seed(seed)
    inputs, targets = make(shape, between=between, scale=scale)
    # powers of small probabilities leave the range of float32
    assert max(errors_of(inputs, targets, alpha, gamma, floor=1e-30)) <= LARGEST_ERROR


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_keeps_small_losses(dtype, target):
    away = torch.tensor([10.0, 15.0, 28.1662, 36.0], dtype=dtype)
    logits = away if target else -away
    loss = focal_reference(logits, torch.full_like(logits, target), -1.0, 0.0)
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-away)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("value", "options"), [(-2.0, (-1, 0.0)), (-60.0, (-1, 0.0)), (3.0, (0.25, 2.0))])
def test_a_mean_of_16_bits_does_not_pass_through_a_16_bit_sum(dtype, value, options: tuple[float, float]):
    logits = torch.full((400, 500), value, dtype=dtype).requires_grad_()
    wide = logits.detach().double().requires_grad_()
    mean, expected = (sigmoid_focal_loss(x, torch.ones_like(x), *options, "mean") for x in (logits, wide))
    assert mean.dtype == dtype and mean.item() == pytest.approx(expected.item(), rel=torch.finfo(dtype).eps)
    scale = 2.0**14  # keeps the gradient above what 16 bits can still tell from 0
    (gradient,), (truth,) = (
        torch.autograd.grad(scale * loss.double(), x) for loss, x in ((mean, logits), (expected, wide))
    )
    limits = torch.finfo(dtype)
    torch.testing.assert_close(gradient.double(), truth, rtol=limits.eps, atol=limits.smallest_normal * limits.eps)


@native_only
def test_a_mean_is_finite_where_only_the_sum_passes_float32():
    logits = torch.full((1 << 18,), -1e34)
    mean = sigmoid_focal_loss(logits, torch.ones_like(logits), -1, 0.0, "mean")
    assert mean.item() == pytest.approx(1e34, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sums_are_right_where_the_dtype_can_hold_them(dtype):
    logits = torch.linspace(-4, 4, 5000).to(dtype)
    targets = (torch.arange(5000) % 3 == 0).to(dtype)
    found = sigmoid_focal_loss(logits, targets, reduction="sum")
    expected = sigmoid_focal_loss(logits.double(), targets.double(), reduction="sum")
    assert found.dtype == dtype and found.item() == pytest.approx(expected.item(), rel=torch.finfo(dtype).eps)
    assert sigmoid_focal_loss(-1e4 * torch.ones(50, dtype=torch.half), torch.ones(50).half(), -1, 0.0, "sum").isinf()


@pytest.mark.parametrize("value", [-12.0, -2.3, 0.1, 5.0, 12.0])
def test_sums_of_equal_losses_do_not_add_up_rounding(value):
    logits, targets = torch.full((1, 16384 * 3 + 100), value), torch.ones(1, 16384 * 3 + 100)
    found = sigmoid_focal_loss(logits, targets, reduction="sum")
    expected = sigmoid_focal_loss(logits.double(), targets.double(), reduction="sum")
    assert error(found, expected) <= LARGEST_ERROR
