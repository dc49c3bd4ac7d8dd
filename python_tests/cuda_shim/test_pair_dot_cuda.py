"""The CUDA kernels of pair_dot against float64."""

from __future__ import annotations

import pytest
import torch
from conftest import cuda_kernels_only
from op_checks import LARGEST_ERROR, error

CASES = [  # pairs of each image, layers, channels, pixels
    ([2, 0, 3], 2, 8, 24),
    ([40, 1], 4, 36, 70),
    ([0, 0], 3, 8, 16),
    ([3], 1, 5, 1100),
    ([1, 2], 2, 136, 33),
]


def draw(counts, layers, channels, pixels, dtype=torch.float32, rows_without_image=3):
    torch.manual_seed(6)
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image_index = torch.cat([image, torch.full((rows_without_image,), -1)])
    embed = torch.randn(len(image_index), layers, channels).to(dtype)
    return embed, torch.randn(len(counts), channels, pixels).to(dtype), image_index


def expected(embed, features, image_index, grad):
    embed, features = embed.double().requires_grad_(), features.double().requires_grad_()
    exists = (image_index >= 0).double()[:, None, None]
    logits = torch.einsum("plc,pcn->pln", embed, features[image_index.clamp(min=0)]) * exists
    return logits.detach(), *torch.autograd.grad(logits, (embed, features), grad.double())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_and_gradients(shim, case, dtype, channels_last):
    embed, features, image_index = draw(*case, dtype)
    grad = torch.randn(*embed.shape[:2], features.shape[2]).to(dtype)
    truth = expected(embed, features, image_index, grad)
    given = features.mT.contiguous().mT if channels_last else features
    logits = shim.pair_dot(embed, given, image_index, False)
    grad_embed, grad_features = shim.pair_dot_backward(grad, embed, given, image_index, False)
    allowed = {torch.float32: LARGEST_ERROR, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    for ours, theirs in zip((logits, grad_embed, grad_features), truth, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == dtype
        assert error(ours, theirs) <= allowed
    assert (logits[image_index < 0] == 0).all() and (grad_embed[image_index < 0] == 0).all()
    assert given.stride() == grad_features.stride()


@pytest.mark.parametrize("layout", ["channels", "channels_last", "pixels", "images", "one_image"])
def test_features_that_are_part_of_a_larger_tensor(shim, layout):
    embed, features, image_index = draw([2, 3], 2, 1 if layout == "pixels" else 8, 24)
    grad = torch.randn(*embed.shape[:2], features.shape[2])
    given = {
        "channels": torch.cat([features, features], 1)[:, : features.shape[1]],
        "channels_last": torch.cat([features, features], 1).mT.contiguous().mT[:, : features.shape[1]],
        "pixels": features.repeat_interleave(2, 2)[..., ::2],
        "images": features.repeat_interleave(2, 0)[::2],
        "one_image": features[:1].expand_as(features),
    }[layout]
    truth = expected(embed, given, image_index, grad)
    found = (
        shim.pair_dot(embed, given, image_index, False),
        *shim.pair_dot_backward(grad, embed, given, image_index, False),
    )
    for ours, theirs in zip(found, truth, strict=True):
        assert error(ours, theirs) <= LARGEST_ERROR


@cuda_kernels_only
def test_tf32_where_it_is_allowed(shim):
    embed, features, image_index = draw([9, 4], 2, 64, 90)
    grad = torch.randn(*embed.shape[:2], features.shape[2])
    truth = expected(embed, features, image_index, grad)
    found = (
        shim.pair_dot(embed, features, image_index, True),
        *shim.pair_dot_backward(grad, embed, features, image_index, True),
    )
    for ours, theirs in zip(found, truth, strict=True):
        assert LARGEST_ERROR < error(ours, theirs) <= 2e-3


def test_no_pairs_and_no_pixels(shim):
    embed, features, image_index = draw([0], 2, 8, 16, rows_without_image=0)
    assert shim.pair_dot(embed, features, image_index, False).shape == (0, 2, 16)
    grad_embed, grad_features = shim.pair_dot_backward(torch.zeros(0, 2, 16), embed, features, image_index, False)
    assert grad_embed.shape == embed.shape and (grad_features == 0).all()
    embed, features, image_index = draw([0], 2, 8, 16)
    grads = shim.pair_dot_backward(torch.ones(3, 2, 16), embed, features[:0], image_index, False)
    assert (grads[0] == 0).all()
    embed, features, image_index = draw([2], 2, 8, 0)
    assert shim.pair_dot(embed, features, image_index, False).shape == (5, 2, 0)
    grads = shim.pair_dot_backward(torch.zeros(5, 2, 0), embed, features, image_index, False)
    assert (grads[0] == 0).all() and grads[1].shape == features.shape
