"""mask_loss against its float64 reference over shapes, dtypes and strides; policies; registration with torch."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, loss_errors
from typed import present

from maskformer_ext.ops import dice_loss, mask_loss, sigmoid_focal_loss

SHAPES = [  # N, (h, w), (H, W)
    (3, (32, 32), (128, 128)),  # factor 4, whole vectors
    (2, (9, 21), (36, 84)),  # factor 4, the last vector is not full
    (2, (25, 40), (97, 158)),  # no integer factor
    (4, (1, 7), (1, 29)),
    (5, (7, 1), (30, 3)),
    (3, (16, 16), (16, 16)),  # no resize
    (2, (12, 20), (24, 40)),
    (2, (5, 11), (15, 33)),
    (2, (9, 11), (72, 88)),
    (2, (5, 5), (80, 80)),
    (2, (40, 30), (13, 17)),  # smaller
    (2, (30, 64), (30, 32)),
    (1, (33, 64), (99, 192)),
    (1, (1, 1), (1, 1)),
    (70, (8, 16), (32, 64)),
]
WEIGHTS: tuple[dict[str, float], ...] = ({}, {"alpha": -1.0, "gamma": 0.0}, {"alpha": 0.7, "gamma": 1.5})
TARGETS = ["bool", "uint8", "float32", "bfloat16", "between"]


def make(shape, target="bool", scale=3.0, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    masks, size, target_size = shape
    logits = (scale * torch.randn(masks, *size)).to(dtype)
    inside = torch.rand(masks, *target_size) < 0.3
    targets = {
        "bool": inside,
        "uint8": inside.to(torch.uint8) * 255,
        "float32": inside.float(),
        "bfloat16": inside.bfloat16(),
        "between": torch.rand(masks, *target_size),
    }[target]
    return logits, targets


def widen(targets):
    return targets.double() if targets.is_floating_point() else targets


def errors_of(logits, targets, floor=1e-300, call=mask_loss, **weights):
    return loss_errors(
        lambda x: call(x, widen(targets) if x.dtype == torch.float64 else targets, **weights), logits, floor
    )


def allowed(kernels, shape):
    """The gradient of few samples adds up terms of both signs, on a GPU in another order."""
    return LARGEST_ERROR if kernels.kind == "cpu" or min(shape[1]) > 4 else 1e-5


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mask_loss_equals_float64_reference(kernels, shape, target):
    slow = kernels.slow and (shape[2][0] > 90 or shape[0] > 10)
    sizes = (min(shape[0], 10), *shape[1:]) if slow else shape
    for weights in WEIGHTS[: 1 if slow else 3]:
        found = errors_of(*make(sizes, target), call=kernels.mask_loss, **weights)
        assert max(found.values()) <= allowed(kernels, shape), (found, weights)


def test_mask_loss_of_many_large_masks(kernels):
    shape = (20, (128, 128), (512, 512)) if kernels.large else (20, (16, 16), (64, 64))
    assert max(errors_of(*make(shape, "between"), call=kernels.mask_loss).values()) <= LARGEST_ERROR


@pytest.mark.parametrize(
    "shape", [(1, (9, 300), (20, 1300)), (1, (3, 2), (12, 1100)), (1, (20, 280), (7, 90))], ids=str
)
def test_wide_masks_are_swept_in_chunks_and_pieces(kernels, shape):
    assert max(errors_of(*make(shape), call=kernels.mask_loss).values()) <= allowed(kernels, shape)


@pytest.mark.parametrize(
    "shape",
    [
        (2, (1, 3), (600, 5)),  # hundreds of rows of targets per row of logits
        (1, (2, 1), (5, 1100)),  # more pixels of one column than threads of a block
        (2, (3, 270), (6, 270)),  # more columns than threads
        (520, (17, 2), (19, 5)),  # masks enough for strips of many rows
    ],
    ids=str,
)
def test_rows_and_columns_of_every_length(kernels, shape):
    assert max(errors_of(*make(shape), call=kernels.mask_loss).values()) <= allowed(kernels, shape)


@pytest.mark.parametrize("target", ["bool", "float32"])
def test_targets_in_odd_places_give_the_same_bits(kernels, target):
    logits, targets = make((2, (6, 9), (24, 36)), target)
    padded = torch.zeros(2, 24, 39, dtype=targets.dtype)
    padded[..., 1:37] = targets
    for ours, theirs in zip(
        kernels.native.mask_loss(logits, padded[..., 1:37], 0.25, 2.0, True),
        kernels.native.mask_loss(logits, targets, 0.25, 2.0, True),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_mask_loss_error_at_working_size(scale):
    logits, targets = make((4, (128, 128), (512, 512)), scale=scale)
    logits += torch.tensor([0.3, -2.0, 5.0, -11.0]).view(
        -1, 1, 1
    )  # each mask by itself must be right, not only the largest
    for mask in range(4):
        found = errors_of(logits[mask : mask + 1], targets[mask : mask + 1])
        assert max(found.values()) <= LARGEST_ERROR, found


def test_mask_loss_is_exact_where_the_prediction_is_good(kernels):
    targets = torch.zeros(1, 64, 64, dtype=torch.bool)
    targets[:, 16:48, 16:48] = True
    logits = torch.where(targets, 14.0, -14.0)  # dice is 1.7e-6, of which 1 - (2 I + 1) / (S + A + 1) keeps one digit
    assert max(errors_of(logits, targets, call=kernels.mask_loss).values()) <= LARGEST_ERROR


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("shape", [(3, (17, 24), (68, 96)), (3, (12, 20), (40, 66))], ids=str)
def test_mask_loss_computes_half_precision_in_float32(kernels, dtype, tolerance, shape):
    logits, targets = make(shape, dtype=dtype)
    strided = logits.mT.contiguous().mT, targets.repeat_interleave(2, 1)[:, ::2]
    for pair in ((logits, targets), strided):
        errors = errors_of(*pair, call=kernels.mask_loss)
        assert max(errors["focal"], errors["dice"]) <= LARGEST_ERROR
        assert max(errors["grad_focal"], errors["grad_dice"]) <= tolerance


def test_mask_loss_takes_any_strides():
    logits, targets = make((4, (16, 24), (64, 96)))
    expected = mask_loss(logits, targets)
    strided_logits = [logits.permute(1, 2, 0).contiguous().permute(2, 0, 1), logits.mT.contiguous().mT]
    strided_targets = [targets.permute(2, 0, 1).contiguous().permute(1, 2, 0), targets.repeat(1, 1, 2)[:, :, :96]]
    for x, t in [(x, targets) for x in strided_logits] + [(logits, t) for t in strided_targets]:
        for actual, wanted in zip(mask_loss(x, t), expected, strict=True):
            assert torch.equal(actual, wanted)
    one = targets[:1].expand(4, -1, -1)
    assert torch.equal(mask_loss(logits, one)[0], mask_loss(logits, one.contiguous())[0])


def test_mask_loss_is_the_elementwise_losses_after_interpolation():
    logits, targets = make((3, (25, 40), (97, 158)))
    logits = logits.double()
    resized = torch.nn.functional.interpolate(logits[None], size=(97, 158), mode="bilinear", align_corners=False)[0]
    focal, dice = mask_loss(logits.float(), targets)
    expected = sigmoid_focal_loss(resized, targets.double()).flatten(1).mean(1)
    assert error(focal, expected) <= LARGEST_ERROR
    assert error(dice, dice_loss(resized, targets)) <= LARGEST_ERROR


@pytest.mark.parametrize("masks", [1, 3, 17])
def test_mask_loss_has_the_same_bits_for_any_number_of_threads(masks):
    logits, targets = make((masks, (60, 64), (240, 256)))

    def run():
        x = logits.clone().requires_grad_()
        focal, dice = mask_loss(x, targets)
        return focal.detach(), dice.detach(), torch.autograd.grad(20 * focal.sum() + dice.sum(), x)[0]

    at_thread_counts(run)


@pytest.mark.parametrize("shape", [(3, (25, 40), (97, 158)), (2, (5, 11), (15, 33))], ids=str)
def test_mask_loss_without_grad_is_the_same(kernels, shape):
    logits, targets = make(shape)
    with_grad = kernels.mask_loss(logits.requires_grad_(), targets)
    with torch.no_grad():
        without = kernels.mask_loss(logits, targets)
    for ours, theirs in zip(without, with_grad, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0 if kernels.kind == "cpu" else 1e-6, atol=0)
    assert not without[0].requires_grad
    assert kernels.native.mask_loss(logits.detach(), targets, 0.25, 2.0, False)[2].numel() == 0


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_one_infinite_logit_spoils_neither_dice_nor_other_pixels(kernels, value, target):
    logits, targets = make((1, (9, 11), (9, 11)), "float32")
    logits[0, 3, 4], targets[0, 3, 4] = value, target
    _, dice, maps, coefficients = kernels.native.mask_loss(logits, targets, 0.25, 2.0, True)
    wide = logits.double().requires_grad_()
    expected = mask_loss(wide, targets.double())[1]
    (gradient,) = torch.autograd.grad(expected.sum(), wide)
    assert expected.isfinite() and gradient.isfinite().all()
    assert error(dice, expected) <= LARGEST_ERROR
    backward = kernels.native.mask_loss_backward
    assert error(backward(maps, coefficients, None, torch.ones(1), torch.float32), gradient) <= LARGEST_ERROR
    other = torch.ones(9, 11, dtype=torch.bool)
    other[3, 4] = False
    of_focal = backward(maps, coefficients, torch.ones(1), None, torch.float32)
    assert of_focal[0, other].isfinite().all() and maps[0, :, other].isfinite().all()


def test_mask_loss_gradient_of_one_of_both_losses():
    logits, targets = make((3, (8, 8), (32, 32)))
    logits.requires_grad_()
    focal, dice = mask_loss(logits, targets)
    (both,) = torch.autograd.grad(3 * focal.sum() + dice.sum(), logits, retain_graph=True)
    (first,) = torch.autograd.grad(focal.sum(), logits, retain_graph=True)
    (second,) = torch.autograd.grad(dice.sum(), logits)
    torch.testing.assert_close(both, 3 * first + second)


def test_mask_loss_second_derivative_is_refused():
    logits, targets = make((2, (8, 8), (32, 32)))
    logits.requires_grad_()
    (grad,) = torch.autograd.grad(mask_loss(logits, targets)[0].sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="mask_loss: the native kernel has no second derivative"):
        grad.sum().backward()


def test_mask_loss_lets_nan_through(kernels):
    logits, targets = make((3, (16, 16), (64, 64)))
    logits[1, 3, 4] = float("nan")
    focal, dice = kernels.mask_loss(logits, targets)
    assert torch.equal(focal.isnan(), torch.tensor([False, True, False]))
    assert torch.equal(dice.isnan(), torch.tensor([False, True, False]))


@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.0])
def test_mask_loss_of_very_large_logits_is_finite(gamma):
    logits, targets = make((2, (16, 16), (64, 64)), scale=1e4)
    logits.requires_grad_()
    focal, dice = mask_loss(logits, targets, gamma=gamma)
    (grad,) = torch.autograd.grad(focal.sum() + dice.sum(), logits)
    assert focal.isfinite().all() and dice.isfinite().all() and grad.isfinite().all()
    assert max(errors_of(logits, targets, gamma=gamma).values()) <= 1e-4  # the logits themselves have seven digits


def test_mask_loss_of_no_masks(kernels):
    logits = torch.randn(0, 8, 8, requires_grad=True)
    focal, dice = kernels.mask_loss(logits, torch.zeros(0, 32, 32, dtype=torch.bool))
    assert focal.shape == dice.shape == (0,)
    (focal.sum() + dice.sum()).backward()
    assert present(logits.grad).shape == (0, 8, 8)


def test_mask_loss_reference_gradcheck():
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(3, 9, 11, dtype=torch.float64)
    for gamma in (2.0, 0.0, 0.5):
        assert torch.autograd.gradcheck(lambda x, g=gamma: mask_loss(x, targets, gamma=g), logits)


def test_mask_loss_reference_chunks(monkeypatch):
    logits, targets = make((5, (8, 8), (32, 32)))
    logits = logits.double().requires_grad_()
    (whole,) = torch.autograd.grad(mask_loss(logits, targets)[0].sum(), logits)
    monkeypatch.setattr(sys.modules[mask_loss.__module__], "_CHUNK_PIXELS", 2 * 32 * 32)
    (chunked,) = torch.autograd.grad(mask_loss(logits, targets)[0].sum(), logits)
    torch.testing.assert_close(chunked, whole)


def test_mask_loss_compiles_whole():
    logits, targets = make((3, (8, 8), (32, 32)))

    def total(x, t):
        focal, dice = mask_loss(x, t)
        return 20 * focal.sum() + dice.sum()

    compiled = torch.compile(total, fullgraph=True, dynamic=True, backend="aot_eager")
    for masks in (3, 2):
        x = logits[:masks].clone().requires_grad_()
        expected = total(x, targets[:masks])
        (expected_grad,) = torch.autograd.grad(expected, x)
        actual = compiled(x, targets[:masks])
        (grad,) = torch.autograd.grad(actual, x)
        assert torch.equal(actual, expected)
        assert torch.equal(grad, expected_grad)


def test_mask_loss_errors_name_the_argument():
    logits, targets = make((3, (8, 8), (32, 32)))
    with pytest.raises(ValueError, match=r"targets must be \(N, H, W\) with N = 3, got \(2, 32, 32\)"):
        mask_loss(logits, targets[:2])
    with pytest.raises(ValueError, match=r"mask_logits must be \(N, h, w\), got \(8, 8\)"):
        mask_loss(logits[0], targets)
    with pytest.raises(TypeError, match=r"targets must be bool, uint8 or floating, got torch\.int64"):
        mask_loss(logits, targets.long())
    with pytest.raises(TypeError, match="mask_logits must have a floating dtype"):
        mask_loss(logits.int(), targets)
    with pytest.raises(ValueError, match="at least one pixel"):
        mask_loss(logits, targets[:, :0])
    with pytest.raises(ValueError, match="alpha must lie in"):
        mask_loss(logits, targets, alpha=1.5)
    with pytest.raises(ValueError, match="gamma must not be negative"):
        mask_loss(logits, targets, gamma=-1.0)
    with pytest.raises(ValueError, match="targets must be on cpu as mask_logits is, got meta"):
        mask_loss(logits, targets.to("meta"))


@given(
    masks=st.integers(0, 4),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    target_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.sampled_from(TARGETS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    transposed=st.booleans(),
    scale=st.sampled_from([0.0, 1.0, 10.0, 60.0]),
    weights=st.sampled_from([{}, {"alpha": -1.0, "gamma": 0.0}, {"alpha": 0.9, "gamma": 3.0}]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_mask_loss_of_any_sizes_equals_float64_reference(
    masks, size, target_size, target, dtype, transposed, scale, weights, seed
):
    torch.manual_seed(seed)
    logits, targets = make((masks, size, target_size), target, scale, dtype)
    if transposed:
        logits, targets = logits.mT.contiguous().mT, targets.mT.contiguous().mT
    # Below the first the float64 reference cancels; float16 has few digits for gradients below the second.
    floor = 1e-4 if dtype == torch.float16 else 1e-9
    errors = errors_of(logits, targets, floor=floor, **weights)
    # Gradients come in the logits' dtype, rounded once; the gradient of few samples adds up terms of both signs.
    allowed = {torch.float32: LARGEST_ERROR, torch.bfloat16: 5e-3, torch.float16: 2e-3}[dtype]
    allowed = allowed if min(size) > 4 else max(allowed, 1e-5)
    assert max(errors["focal"], errors["dice"]) <= LARGEST_ERROR
    assert max(errors["grad_focal"], errors["grad_dice"]) <= allowed
