"""Sampling in plain PyTorch: maps as by torch's grid_sample, segment maps as by the masks of their segments."""

import pytest
import torch
import torch.nn.functional as F

from maskformer_ext.ops import SegmentTargets
from maskformer_ext.ops.support import points as at_points
from maskformer_ext.ops.support.point_matching import sample_targets

SIZES = [(12, 17), (1, 1), (1, 9), (7, 1)]


def make_points(dtype=torch.float64):
    return 1.4 * torch.rand(3, 500, 2, dtype=dtype) - 0.2


@pytest.mark.parametrize("sampling", at_points.SAMPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_are_sampled_as_by_grid_sample(size, sampling):
    maps, points = torch.randn(3, *size, dtype=torch.float64, requires_grad=True), make_points()
    grid = 2 * points.unsqueeze(2) - 1
    expected = F.grid_sample(maps.unsqueeze(1), grid, mode=sampling, align_corners=False)[:, 0, :, 0]
    found = at_points.sample(maps, points, sampling)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(found)
    grads = [torch.autograd.grad((value * upstream).sum(), maps)[0] for value in (found, expected)]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampling", at_points.SAMPLINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_segment_maps_are_sampled_as_the_masks_of_their_segments(size, sampling):
    maps, points, image = torch.randint(-1, 6, (3, *size), dtype=torch.int32), make_points(), torch.arange(3)
    targets = SegmentTargets(maps, torch.zeros((3, 4), dtype=torch.int64), torch.full((3,), 4))
    of_all = sample_targets(targets, points, sampling).mT
    assert of_all.shape == (3, 500, 4)
    for segment in range(4):
        expected = at_points.sample((maps == segment).double(), points, sampling)
        found = at_points.sample_segment(maps, image, torch.full((3,), segment), points, sampling)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(of_all[..., segment], expected, rtol=0, atol=1e-12)


def test_halves_go_to_the_even_pixel():
    edges = torch.tensor([[[1 / 4, 0.5], [2 / 4, 0.5], [3 / 4, 0.5]]])
    found = at_points.sample(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), edges, "nearest")
    assert found.tolist() == [[0.0, 2.0, 2.0]]


def test_points_that_are_not_finite_lie_outside_and_weightless_pixels_add_nothing():
    nan, inf = float("nan"), float("inf")
    points = torch.tensor([[[nan, 0.5], [0.5, inf], [-inf, nan], [1e30, 0.5], [1 / 4, 0.5]]])
    maps = torch.tensor([[[2.0, inf]]])  # the last point lies on the centre of the first pixel
    assert at_points.sample(maps, points).tolist() == [[0.0, 0.0, 0.0, 0.0, 2.0]]
    assert at_points.sample(maps, points[:, :4], "nearest").tolist() == [[0.0, 0.0, 0.0, 0.0]]
