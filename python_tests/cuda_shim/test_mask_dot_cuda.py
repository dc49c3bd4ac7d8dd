"""The CUDA kernel of mask_dot against float64."""

from __future__ import annotations

import pytest
import torch
from conftest import cuda_kernels_only
from op_checks import LARGEST_ERROR, error

NONE, SIGMOID, BINARY = range(3)
SHAPES = [  # layers, images, queries, channels, (h, w)
    ((2,), 2, 3, 8, (3, 5)),
    ((), 1, 100, 40, (16, 9)),
    ((3,), 1, 45, 33, (8, 16)),
    ((), 2, 130, 64, (2, 72)),
    ((1, 2), 1, 1, 1, (1, 1)),
]


def draw(layers, images, queries, channels, size, dtype=torch.float32):
    torch.manual_seed(5)
    return torch.randn(*layers, images, queries, channels).to(dtype), torch.randn(images, channels, *size).to(dtype)


def product(mask_embed, mask_features):
    return torch.einsum("...bqc,bchw->...bqhw", mask_embed.double(), mask_features.double())


@cuda_kernels_only
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_as_exact_as_float32(shim, shape, channels_last):
    mask_embed, mask_features = draw(*shape)
    given = mask_features.to(memory_format=torch.channels_last) if channels_last else mask_features
    truth = product(mask_embed, mask_features)
    found = shim.mask_dot(mask_embed, given, NONE, torch.float32, False)
    assert error(found, truth) <= LARGEST_ERROR
    rounded = shim.mask_dot(mask_embed, given, NONE, torch.float32, True)
    assert error(rounded, truth) <= 2e-3
    if shape[3] > 8:
        assert error(rounded, truth) > LARGEST_ERROR  # it is TF32 that was asked for


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_16_bit_operands_are_summed_in_float32(shim, shape, dtype, channels_last):
    mask_embed, mask_features = draw(*shape, dtype)
    given = mask_features.to(memory_format=torch.channels_last) if channels_last else mask_features
    found = shim.mask_dot(mask_embed, given, NONE, torch.float32, False)
    assert error(found, product(mask_embed, mask_features)) <= LARGEST_ERROR


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_activations_and_outputs(shim, dtype):
    mask_embed, mask_features = draw((), 2, 7, 16, (9, 11))
    truth = product(mask_embed, mask_features)
    allowed = {torch.float32: LARGEST_ERROR, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    assert error(shim.mask_dot(mask_embed, mask_features, SIGMOID, dtype, False), truth.sigmoid()) <= allowed
    assert error(shim.mask_dot(mask_embed, mask_features, NONE, dtype, False), truth) <= allowed
    assert torch.equal(shim.mask_dot(mask_embed, mask_features, BINARY, torch.bool, False), truth > 0)
    assert torch.equal(shim.mask_dot(mask_embed, mask_features, BINARY, dtype, False), (truth > 0).to(dtype))


def test_strides_and_two_dtypes(shim):
    mask_embed, mask_features = draw((2,), 2, 6, 24, (10, 8))
    truth = product(mask_embed, mask_features)
    for features in (
        mask_features.repeat_interleave(2, 1)[:, ::2],
        mask_features.repeat_interleave(2, 3)[..., ::2],
        mask_features.mT.contiguous().mT,
        torch.cat([mask_features, mask_features])[:2],
        mask_features[:, :, :1].expand_as(mask_features),
    ):
        found = shim.mask_dot(mask_embed.mT.contiguous().mT, features, NONE, torch.float32, False)
        assert error(found, product(mask_embed, features)) <= LARGEST_ERROR
    for features in (  # neither a pixel's neighbour nor its next channel is the next element
        mask_features.repeat_interleave(2, 3)[..., :1],
        mask_features.repeat_interleave(2, 2)[:, :, ::2, :1],
        mask_features[:, :, :1, :1],
    ):
        found = shim.mask_dot(mask_embed, features, NONE, torch.float32, False)
        assert error(found, product(mask_embed, features)) <= LARGEST_ERROR
    one = mask_features[:, :1].repeat_interleave(2, 3)[..., ::2]  # nor where there is one channel
    found = shim.mask_dot(mask_embed[..., :1], one, NONE, torch.float32, False)
    assert error(found, product(mask_embed[..., :1], one)) <= LARGEST_ERROR
    mixed = shim.mask_dot(mask_embed.half(), mask_features.bfloat16(), NONE, torch.float32, False)
    assert error(mixed, product(mask_embed.half(), mask_features.bfloat16())) <= LARGEST_ERROR
    assert error(mixed, truth) <= 2e-2


def test_what_is_not_finite_stays_so(shim):
    mask_embed, mask_features = draw((), 1, 4, 16, (4, 4))
    mask_embed[0, 1, 3], mask_embed[0, 2, 5] = torch.nan, torch.inf
    for dtype in (torch.float32, torch.bfloat16):
        found = shim.mask_dot(mask_embed.to(dtype), mask_features.to(dtype), NONE, torch.float32, False)
        assert not found[0, 1:3].isfinite().any() and found[0, [0, 3]].isfinite().all()


def test_nothing_to_multiply(shim):
    for layers, images, queries, size in (((0,), 2, 3, (4, 4)), ((), 2, 0, (4, 4)), ((), 2, 3, (0, 4))):
        mask_embed, mask_features = draw(layers, images, queries, 8, size)
        found = shim.mask_dot(mask_embed, mask_features, NONE, torch.float32, False)
        assert found.shape == (*layers, images, queries, *size)
    mask_embed, mask_features = draw((), 1, 3, 0, (4, 4))
    assert (shim.mask_dot(mask_embed, mask_features, NONE, torch.float32, False) == 0).all()
