"""uncertain_points against its float64 reference, and against torch's grid_sample and topk."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import at_thread_counts

from maskformer_ext.ops import uncertain_points


def make(masks=3, size=(12, 17), candidates=600, dtype=torch.float32):
    return 3 * torch.randn(masks, *size).to(dtype), 1.1 * torch.rand(masks, candidates, 2) - 0.05


def distances(logits, points):
    """|logit| at points, by torch."""
    maps, grid = logits.double().unsqueeze(1), 2 * points.double().unsqueeze(2) - 1
    return F.grid_sample(maps, grid, align_corners=False)[:, 0, :, 0].abs()


@pytest.mark.parametrize("count", [0, 1, 17, 450, 599, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_chosen_are_the_nearest_to_zero(kernels, dtype, count):
    logits, candidates = make(dtype=dtype)
    chosen = kernels.uncertain_points(logits, candidates, count)
    assert chosen.shape == (3, count, 2)
    wanted = distances(logits, candidates).topk(count, largest=False).values.sort().values
    torch.testing.assert_close(distances(logits, chosen).sort().values, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(chosen, uncertain_points(logits.double(), candidates, count))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 1), (2, 3), (70, 90)], ids=str)
def test_maps_of_any_size(kernels, size):
    logits, candidates = make(size=size, candidates=203)
    chosen = kernels.uncertain_points(logits, candidates, 50)
    wanted = distances(logits, candidates).topk(50, largest=False).values.sort().values
    torch.testing.assert_close(distances(logits, chosen).sort().values, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 30, 100, 640])
def test_of_equal_candidates_the_first_are_chosen(kernels, count):
    # Where points lie on a fine grid, every weight is exact, and so is the sample.
    logits, candidates = torch.full((2, 8, 8), 1.5), torch.randint(7, 57, (2, 700, 2)) / 64
    logits[1, :, :4] = -1.5  # the same distance, and smaller ones between the halves
    chosen = kernels.uncertain_points(logits, candidates, count)
    assert torch.equal(chosen[0], candidates[0, :count])
    smaller = (candidates[1, :, 0] > 3.5 / 8) & (candidates[1, :, 0] < 4.5 / 8)
    both = int(smaller.sum())
    if count > both:
        first = torch.cat([smaller.nonzero()[:, 0], (~smaller).nonzero()[: count - both, 0]]).sort().values
        assert torch.equal(chosen[1], candidates[1, first])


def test_nan_is_chosen_last_and_outside_is_zero(kernels):
    logits = torch.ones(1, 4, 4)
    logits[0, :, :2] = float("nan")
    candidates = torch.tensor([[[0.1, 0.5], [0.9, 0.5], [float("nan"), 0.5], [0.9, 0.4], [2.0, 0.5], [0.2, 0.2]]])
    chosen = kernels.uncertain_points(logits, candidates, 4)
    assert torch.equal(chosen[0, 0], candidates[0, 1])
    assert chosen[0, 1, 0].isnan()
    assert torch.equal(chosen[0, 2:], candidates[0, 3:5])
    assert torch.equal(kernels.uncertain_points(logits, candidates, 5)[0, 0], candidates[0, 0])


def test_infinite_logits_come_before_nan(kernels):
    logits = torch.tensor([[[float("nan"), float("inf"), 2.0, -1.0]]])
    centres = torch.tensor([[[1 / 8, 0.5], [3 / 8, 0.5], [5 / 8, 0.5], [7 / 8, 0.5]]])
    for count in range(1, 5):
        assert torch.equal(kernels.uncertain_points(logits, centres, count), centres[:, 4 - count :])


def test_any_strides(kernels):
    logits, candidates = make()
    expected = kernels.uncertain_points(logits, candidates, 99)
    strided = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    points = candidates.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(kernels.uncertain_points(strided, points, 99), expected)
    padded = F.pad(logits, (0, 3))[..., :-3]
    assert torch.equal(kernels.uncertain_points(padded, candidates.double().float(), 99), expected)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    candidates=st.integers(1, 300),
    share=st.floats(0, 1),
    levels=st.sampled_from([None, 2, 30]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_any_sizes_equal_the_reference(size, candidates, share, levels, seed):
    torch.manual_seed(seed)
    logits, points = make(2, size, candidates)
    if levels is not None:  # at the centres of pixels, so that there are many ties
        logits = torch.randint(-levels, levels, (2, *size)).float()
        pixel = torch.stack([torch.randint(size[axis], (2, candidates)) for axis in (1, 0)], -1)
        points = (pixel + 0.5) / torch.tensor([size[1], size[0]])
    count = int(share * candidates)
    chosen, expected = (uncertain_points(x, points, count) for x in (logits, logits.double()))
    distance, wanted = distances(logits, chosen), distances(logits, expected)
    torch.testing.assert_close(distance.sort().values, wanted.sort().values, rtol=1e-5, atol=2e-5)


def test_the_same_bits_for_any_number_of_threads():
    logits, candidates = make(5)
    at_thread_counts(lambda: uncertain_points(logits, candidates, 100))


def test_compiles_whole_and_without_gradient():
    logits, candidates = make()
    logits.requires_grad_()
    compiled = torch.compile(uncertain_points, fullgraph=True, backend="aot_eager")
    chosen = compiled(logits, candidates, 100)
    assert torch.equal(chosen, uncertain_points(logits, candidates, 100))
    assert not chosen.requires_grad


def test_errors_name_the_argument():
    logits, candidates = make()
    with pytest.raises(ValueError, match=r"count must lie in \[0, M\] with M = 600, got 601"):
        uncertain_points(logits, candidates, 601)
    with pytest.raises(TypeError, match=r"count must be an integer, got 1\.5"):
        uncertain_points(logits, candidates, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"candidates must be \(N, P, 2\) with N = 3, got \(2, 600, 2\)"):
        uncertain_points(logits, candidates[:2], 1)
    with pytest.raises(TypeError, match=r"candidates must have a floating dtype, got torch\.int64"):
        uncertain_points(logits, candidates.long(), 1)
    with pytest.raises(ValueError, match=r"mask_logits must have at least one pixel, got \(3, 0, 17\)"):
        uncertain_points(logits[:, :0], candidates, 1)
