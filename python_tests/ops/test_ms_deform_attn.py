"""ms_deform_attn: reference and kernels against a sum that is written out point by point, and transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from op_checks import LARGEST_ERROR, at_thread_counts, error
from torch import Tensor

from maskformer_ext.ops import ms_deform_attn

SHAPES = ((3, 4), (6, 5), (1, 7))


@dataclass
class Call:
    """A call with points that may differ per level."""

    value: Tensor
    shapes: tuple[tuple[int, int], ...]
    locations: Tensor
    weights: Tensor
    points: tuple[int, ...]

    def run(self, op, sampling: str = "bilinear", dtype: torch.dtype | None = None) -> list[Tensor]:
        """Return the output and the three gradients, computed in a dtype."""
        inputs = [x.detach().to(dtype or x.dtype).requires_grad_() for x in (self.value, self.locations, self.weights)]
        out = op(inputs[0], self.shapes, *inputs[1:], points_per_level=self.points, sampling=sampling)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double).to(self.value)
        grads = torch.autograd.grad(out, inputs, grad.to(out.dtype), allow_unused=True)
        return [out.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True))]


def draw(shapes=SHAPES, points=(2, 3, 1), batch=2, queries=5, heads=3, channels=8, dtype=torch.float32) -> Call:
    generator = torch.Generator().manual_seed(3)
    total = sum(points)
    value = torch.randn(batch, sum(h * w for h, w in shapes), heads, channels, generator=generator)
    locations = torch.rand(batch, queries, heads, total, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, total, generator=generator)
    return Call(value.to(dtype), shapes, locations, weights, points)


def written_out(call: Call, sampling: str) -> Tensor:
    """The output in float64, one tap at a time."""
    batch, _, heads, channels = call.value.shape
    queries = call.locations.shape[1]
    value, places, weights = call.value.double(), call.locations.double(), call.weights.double()
    out = torch.zeros(batch, queries, heads, channels, dtype=torch.double)
    for b, q, h in torch.cartesian_prod(torch.arange(batch), torch.arange(queries), torch.arange(heads)).tolist():
        point, start = 0, 0
        for (height, width), count in zip(call.shapes, call.points, strict=True):
            cells = value[b, start : start + height * width, h].view(height, width, channels)
            start += height * width
            for x, y in places[b, q, h, point : point + count].tolist():
                if sampling == "discrete":
                    column = min(max(math.floor(x * width + 0.5), 0), width - 1)
                    row = min(max(math.floor(y * height + 0.5), 0), height - 1)
                    taps = {(row, column): 1.0}
                else:
                    px, py = x * width - 0.5, y * height - 0.5
                    left, above = math.floor(px), math.floor(py)
                    taps = {
                        (above + i, left + j): (1 - abs(py - above - i)) * (1 - abs(px - left - j))
                        for i in (0, 1)
                        for j in (0, 1)
                    }
                for (row, column), share in taps.items():
                    if 0 <= row < height and 0 <= column < width:
                        out[b, q, h] += weights[b, q, h, point] * share * cells[row, column]
                point += 1
    return out.flatten(2)


@pytest.mark.parametrize("sampling", ["bilinear", "discrete"])
def test_equals_the_sum_written_out(kernels, sampling):
    call = draw()
    expected = written_out(call, sampling)
    assert error(call.run(ms_deform_attn, sampling, torch.double)[0], expected) < 1e-14
    assert error(call.run(kernels.ms_deform_attn, sampling)[0], expected) < LARGEST_ERROR


CHANNELS = [1, 3, 8, 16, 20, 32, 33, 48, 64, 72]


@pytest.mark.parametrize("sampling", ["bilinear", "discrete"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_any_number_of_channels(kernels, channels, sampling):
    call = draw(channels=channels, queries=19)
    for ours, exact in zip(
        call.run(kernels.ms_deform_attn, sampling), call.run(ms_deform_attn, sampling, torch.double), strict=True
    ):
        assert error(ours, exact) < LARGEST_ERROR


POINTS = [(1, 0, 0), (0, 4, 4), (7, 5, 3), (40, 1, 2)]


@pytest.mark.parametrize("points", POINTS, ids=str)
def test_any_number_of_points(kernels, points):
    call = draw(points=points, queries=18, channels=4)
    exact = call.run(ms_deform_attn, dtype=torch.double)
    for ours, theirs in zip(call.run(kernels.ms_deform_attn), exact, strict=True):
        assert error(ours, theirs) < LARGEST_ERROR


@pytest.mark.parametrize(("kind", "allowed"), [(torch.bfloat16, 4e-3), (torch.float16, 5e-4)])
@pytest.mark.parametrize("mixed", [True, False])
def test_half_precision_with_locations_of_either_dtype(kernels, kind, allowed, mixed):
    call = draw(dtype=kind, channels=20)
    if not mixed:
        call.locations, call.weights = call.locations.to(kind), call.weights.to(kind)
    exact = call.run(ms_deform_attn, dtype=torch.double)
    ours = call.run(kernels.ms_deform_attn)
    assert [x.dtype for x in ours] == [kind, kind, call.locations.dtype, call.weights.dtype]
    for mine, theirs in zip(ours, exact, strict=True):
        assert error(mine, theirs) < allowed


def test_sizes_that_are_no_powers_of_two_lose_nothing(kernels):
    call = draw(shapes=((97, 211),), points=(3,), batch=1, queries=40, heads=1, channels=5)
    ours, exact = call.run(kernels.ms_deform_attn), call.run(ms_deform_attn, dtype=torch.double)
    assert error(ours[0], exact[0]) < 3e-7
    assert error(ours[1], exact[1]) < 3e-7


def test_points_of_many_queries_in_one_cell_add_up(kernels):
    call = draw(shapes=((2, 2),), points=(4,), batch=1, queries=60, heads=2, channels=4)
    ours, exact = call.run(kernels.ms_deform_attn), call.run(ms_deform_attn, dtype=torch.double)
    for mine, theirs in zip(ours, exact, strict=True):
        assert error(mine, theirs) < LARGEST_ERROR


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_gradients_of_any_magnitude(kernels, scale):
    call = draw(channels=4)
    call.weights = call.weights * scale
    ours, exact = call.run(kernels.ms_deform_attn)[1], call.run(ms_deform_attn, dtype=torch.double)[1]
    assert error(ours, exact) < LARGEST_ERROR


@pytest.mark.parametrize("sampling", ["bilinear", "discrete"])
def test_locations_that_are_far_outside_infinite_or_nan(kernels, sampling):
    call = draw(queries=8)
    strange = [math.inf, -math.inf, 1e30, -1e30, 7.5, -3.0]
    for query, number in enumerate(strange):
        call.locations[0, query, 0, 1, query % 2] = number
    ours, exact = (op(call, sampling) for op in (_ours(kernels), _exact))
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.isfinite().all()
        assert error(mine, theirs) < LARGEST_ERROR
    call.locations[1, 2, 1, 3, 0] = call.locations[1, 3, 2, 0, 1] = torch.nan
    ours, exact = (op(call, sampling) for op in (_ours(kernels), _exact))
    assert ours[0].isnan().sum() == 16  # all channels of two heads
    for mine, theirs in zip(ours, exact, strict=True):
        assert torch.equal(mine.isnan(), theirs.isnan())
        assert error(mine.nan_to_num(), theirs.nan_to_num()) < LARGEST_ERROR
    assert (ours[2][1, 2, 1, 3] == 0).all() and ours[3][1, 3, 2, 0] == 0


def _ours(kernels):
    return lambda call, sampling: call.run(kernels.ms_deform_attn, sampling)


def _exact(call, sampling):
    return call.run(ms_deform_attn, sampling, torch.double)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_values_and_weights_that_are_not_finite_reach_what_takes_them(kernels, number):
    call = draw()
    call.value[0, 5, 1, 2] = call.value[1, 40, 0, 0] = call.value[1, 11, 2, 1] = number
    mine, theirs = call.run(kernels.ms_deform_attn)[0], call.run(ms_deform_attn, dtype=torch.double)[0]
    assert 0 < (~theirs.isfinite()).sum() < theirs.numel() / 2
    assert torch.equal(mine.isfinite(), theirs.isfinite())
    call = draw()
    call.locations[0, 1, 2, 3] = 0.4  # inside
    call.weights[0, 1, 2, 3] = number
    both = call.run(kernels.ms_deform_attn), call.run(ms_deform_attn, dtype=torch.double)
    for ours, expected in zip(both[0][:2], both[1][:2], strict=True):
        assert 0 < (~expected.isfinite()).sum() < expected.numel() / 2
        assert torch.equal(ours.isfinite(), expected.isfinite())


def _results(call):
    return tuple(call.run(ms_deform_attn))


def test_results_are_the_same_bits_for_any_number_of_threads():
    for batch, channels in ((5, 20), (1, 40)):  # by image and head, and by parts of them
        call = draw(batch=batch, queries=100, channels=channels)
        at_thread_counts(partial(_results, call))


def test_results_are_the_same_bits_from_run_to_run(kernels):
    call = draw(queries=40)
    for first, second in zip(call.run(kernels.ms_deform_attn), call.run(kernels.ms_deform_attn), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
def test_gradients_that_nobody_asks_for_are_left_out(kernels, wanted):
    call = draw()
    grads = call.run(kernels.ms_deform_attn)[1:]
    inputs = [x.requires_grad_(i in wanted) for i, x in enumerate((call.value, call.locations, call.weights))]
    out = kernels.ms_deform_attn(inputs[0], call.shapes, *inputs[1:], points_per_level=call.points)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.double).float()
    found = torch.autograd.grad(out, [inputs[i] for i in wanted], grad)
    for i, mine in zip(wanted, found, strict=True):
        assert torch.equal(mine, grads[i])


def test_any_strides(kernels):
    call = draw()
    expected = call.run(kernels.ms_deform_attn)
    layouts = [
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
        lambda x: torch.stack((x, x), -1)[..., 0],
        lambda x: torch.cat((x, x), 1)[:, : x.shape[1]],
    ]
    for layout in layouts:
        other = Call(layout(call.value), call.shapes, layout(call.locations), layout(call.weights), call.points)
        for mine, theirs in zip(other.run(kernels.ms_deform_attn), expected, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("empty", ["batch", "queries", "heads", "channels", "points"])
def test_nothing_to_compute(kernels, empty):
    call = draw(**{empty: (0, 0, 0) if empty == "points" else 0})
    out, *grads = call.run(kernels.ms_deform_attn)
    assert out.shape == (call.value.shape[0], call.locations.shape[1], call.value.shape[2] * call.value.shape[3])
    for gradient, of in zip([out, *grads], [out, call.value, call.locations, call.weights], strict=True):
        assert gradient.shape == of.shape and (gradient == 0).all()


def test_gradients_are_those_of_finite_differences():
    call = draw(queries=2, heads=1, batch=1, channels=2)
    inputs = [x.double().requires_grad_() for x in (call.value, call.locations, call.weights)]
    assert torch.autograd.gradcheck(
        lambda v, x, w: ms_deform_attn(v, call.shapes, x, w, points_per_level=call.points), inputs
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_locations_of_cells_have_the_gradient_0(dtype):
    """Not none: a model that learns nothing but its offsets would fail otherwise."""
    call = draw(dtype=dtype)
    call.locations.requires_grad_()
    ms_deform_attn(
        call.value, call.shapes, call.locations, call.weights, points_per_level=call.points, sampling="discrete"
    ).sum().backward()
    assert call.locations.grad is not None and not call.locations.grad.any()


def test_levels_with_equal_points_equal_transformers(kernels):
    theirs = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    call = draw(points=(2, 2, 2))
    locations, weights = call.locations.unflatten(3, (3, 2)), call.weights.unflatten(3, (3, 2))
    expected = theirs.multi_scale_deformable_attention(
        call.value.double(), list(call.shapes), locations.double(), weights.double()
    )
    assert error(kernels.ms_deform_attn(call.value, call.shapes, locations, weights), expected) < LARGEST_ERROR
    shapes = torch.tensor(call.shapes)
    assert error(ms_deform_attn(call.value, shapes, locations, weights), expected) < LARGEST_ERROR


@pytest.mark.parametrize(("sampling", "method"), [("bilinear", "default"), ("discrete", "discrete")])
def test_points_that_differ_per_level_equal_transformers(kernels, sampling, method):
    theirs = pytest.importorskip("transformers.models.d_fine.modeling_d_fine")
    call = draw()
    expected = theirs.multi_scale_deformable_attention_v2(
        call.value.double(), list(call.shapes), call.locations.double(), call.weights.double(), call.points, method
    )
    assert error(call.run(kernels.ms_deform_attn, sampling)[0], expected) < LARGEST_ERROR


def test_many_levels(kernels):
    """More than the CUDA kernels hold: the reference computes them."""
    call = draw(shapes=((1, 2),) * 70, points=(1,) * 70, queries=3, heads=1)
    for mine, theirs in zip(call.run(kernels.ms_deform_attn), _exact(call, "bilinear"), strict=True):
        assert error(mine, theirs) < LARGEST_ERROR


def test_mistakes_are_named():
    call = draw(points=(2, 2, 2))
    locations, weights = call.locations.unflatten(3, (3, 2)), call.weights.unflatten(3, (3, 2))

    def fails(kind, text, **changed):
        given = {
            "value": call.value,
            "spatial_shapes": call.shapes,
            "sampling_locations": locations,
            "attention_weights": weights,
        }
        with pytest.raises(kind, match=text):
            ms_deform_attn(**{**given, **changed})

    fails(
        ValueError, r"value must be \(B, S, H, D\) with S = 49 by spatial_shapes, got \(2, 48,", value=call.value[:, 1:]
    )
    fails(ValueError, r"value must be \(B, S, H, D\), got \(49", value=call.value[0])
    fails(TypeError, "value must have a floating dtype, got torch.int64", value=call.value.long())
    fails(TypeError, "spatial_shapes must be pairs of integers, got 7", spatial_shapes=7)
    fails(ValueError, r"spatial_shapes must be one \(h, w\) per level, got \[\]", spatial_shapes=[])
    fails(TypeError, "spatial_shapes must have an integer dtype, got torch.float32", spatial_shapes=torch.ones(3, 2))
    sparse = torch.ones(3, 2, dtype=torch.int64).to_sparse()
    fails(TypeError, "spatial_shapes must be a dense Tensor, got torch.sparse_coo", spatial_shapes=sparse)
    fails(ValueError, "spatial_shapes must be positive", spatial_shapes=((0, 4), (6, 5), (1, 7)))
    fails(TypeError, "a height must be an integer, got 3.0", spatial_shapes=((3.0, 4), (6, 5), (1, 7)))
    fails(TypeError, "must be pairs of integers, got a Tensor on meta", spatial_shapes=torch.zeros(3, 2, device="meta"))
    fails(ValueError, r"\(B, Q, H, L, P, 2\) with L = 3, B = 2 and H = 3", sampling_locations=locations[:, :, :2])
    fails(ValueError, r"\(B, Q, H, N, 2\) with N = 6, B", points_per_level=(2, 2, 2))
    fails(ValueError, "points_per_level must be 3 counts, one per level, got", points_per_level=(6,))
    fails(TypeError, "points_per_level must be a sequence of integers, got 6", points_per_level=6)
    fails(ValueError, r"attention_weights must be \(2, 5, 3, 3, 2\)", attention_weights=weights[..., :1])
    fails(ValueError, "sampling must be", sampling="nearest")
