"""ms_deform_attn where its interpolation has kinks: rounding alone picks a cell, and it must be that of grid_sample."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error
from torch import Tensor

from maskformer_ext.ops import ms_deform_attn

SHAPES = [(16, 16), (64, 32), (7, 11), (37, 97), (1, 1), (2, 1333)]


def near_centres(size: int, dtype: torch.dtype) -> Tensor:
    """The centres of all pixels and of the first ones outside, and the numbers of a dtype around each."""
    centres = ((torch.arange(-1, size + 1, dtype=torch.double) + 0.5) / size).to(dtype)
    found, below, above = [centres], centres, centres
    for _ in range(3):
        below = torch.nextafter(below, torch.full_like(below, -9))
        above = torch.nextafter(above, torch.full_like(above, 9))
        found += [below, above]
    return torch.cat(found)


def drawn_from(numbers: Tensor, count: int) -> Tensor:
    """All numbers in a random order, and more of them if count asks for more."""
    generator = torch.Generator().manual_seed(len(numbers))
    rounds = -(-count // len(numbers))
    return torch.cat([numbers[torch.randperm(len(numbers), generator=generator)] for _ in range(rounds)])[:count]


def locations_near_centres(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Locations (1, Q, 1, 1, 1, 2), whose x and y are all near centres."""
    x, y = near_centres(shape[1], dtype), near_centres(shape[0], dtype)
    count = max(len(x), len(y), 200)
    return torch.stack((drawn_from(x, count), drawn_from(y, count)), -1)[None, :, None, None, None]


def locations_of_a_new_layer(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Locations (1, Q, 1, 1, 4, 2) that lie whole pixels around the centres, as a new layer of attention finds them."""
    height, width = shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres = torch.stack((x / width, y / height), -1).to(dtype).reshape(-1, 1, 2)[:500]
    offsets = torch.tensor([(0, 0), (2, 2), (0, -3), (-4, 4)], dtype=dtype)
    return (centres + offsets / torch.tensor([width, height], dtype=dtype))[None, :, None, None]


def sums_and_gradients(op, shape: tuple[int, int], locations: Tensor) -> list[Tensor]:
    """The output of an op at locations, and its three gradients."""
    generator = torch.Generator().manual_seed(5)
    given = (
        torch.randn(1, shape[0] * shape[1], 1, 4, generator=generator, dtype=torch.double),
        locations,
        torch.rand(locations.shape[:-1], generator=generator, dtype=torch.double) + 0.5,
    )
    value, locations, weights = (x.detach().to(locations.dtype).requires_grad_() for x in given)
    out = op(value, [shape], locations, weights)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.double).to(out)
    return [out.detach(), *torch.autograd.grad(out, (value, locations, weights), grad)]


@pytest.mark.parametrize("locations_for", [locations_near_centres, locations_of_a_new_layer])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-4), (torch.float64, 1e-12)], ids=str)
def test_gradients_are_those_of_transformers(kernels, dtype, allowed, shape, locations_for):
    """A point on the other side of a kink would differ by as much as the gradients are large."""
    theirs = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    locations = locations_for(shape, dtype)
    expected = sums_and_gradients(theirs.multi_scale_deformable_attention, shape, locations)
    op = kernels.ms_deform_attn if dtype == torch.float32 else ms_deform_attn
    for ours, other in zip(sums_and_gradients(op, shape, locations), expected, strict=True):
        assert error(ours, other) < allowed


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_without_kernels_picks_the_cells_of_the_kernels(kernels, shape):
    from maskformer_ext.ops.ms_deform_attn import _reference

    def reference(value, shapes, locations, weights):
        return _reference(value, shapes, locations.flatten(3, 4), weights.flatten(3), [locations.shape[4]], False)

    locations = locations_near_centres(shape, torch.float32)
    expected = sums_and_gradients(reference, shape, locations)
    for ours, other in zip(sums_and_gradients(kernels.ms_deform_attn, shape, locations), expected, strict=True):
        assert error(ours, other) < 1e-4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_near_kinks_are_as_exact_as_elsewhere(kernels, shape):
    locations = locations_near_centres(shape, torch.float32)
    ours = sums_and_gradients(kernels.ms_deform_attn, shape, locations)[0]
    exact = sums_and_gradients(ms_deform_attn, shape, locations.double())[0]
    assert error(ours, exact) < LARGEST_ERROR + max(shape) * 2**-23  # 2 * location - 1 loses two units at most


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_discrete_cells_are_those_of_transformers(kernels, dtype, shape):
    theirs = pytest.importorskip("transformers.models.d_fine.modeling_d_fine")
    locations = locations_near_centres(shape, dtype)[:, :, :, 0]
    value = torch.arange(shape[0] * shape[1], dtype=dtype)[None, :, None, None]  # its own number in each cell
    weights = torch.ones(locations.shape[:-1], dtype=dtype)
    expected = theirs.multi_scale_deformable_attention_v2(value, [shape], locations, weights, [1], "discrete")
    op = kernels.ms_deform_attn if dtype == torch.float32 else ms_deform_attn
    ours = op(value, [shape], locations, weights, points_per_level=[1], sampling="discrete")
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
def test_locations_of_half_precision_count_as_float32(kernels, kind):
    locations = locations_near_centres((7, 11), torch.float32).to(kind)
    value = torch.randn(1, 77, 1, 4, generator=torch.Generator().manual_seed(1))
    weights = torch.ones(locations.shape[:-1])
    found = []
    for dtype in (kind, torch.float32):
        given = locations.to(dtype).requires_grad_()
        out = kernels.ms_deform_attn(value, [(7, 11)], given, weights)
        (gradient,) = torch.autograd.grad(out.sum(), given)
        found.append((out.detach(), gradient.to(kind)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
