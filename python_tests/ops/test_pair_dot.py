"""pair_dot: both ways of forming the mask logits of pairs, and the kernels, against one product per pair."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error, shifted
from torch import Tensor

from maskformer_ext.ops.pair_dot import pair_dot

COUNTS = [(3, 0, 5), (0, 0), (40, 1, 33), (1,)]


def _inputs(
    counts: tuple[int, ...], padding: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    image = torch.cat([torch.full((n,), b) for b, n in enumerate(counts)] + [torch.full((padding,), -1)])
    embed = torch.randn(len(image), 2, 8, dtype=dtype, requires_grad=True)
    features = torch.randn(len(counts), 8, 3, 5, dtype=dtype, requires_grad=True)
    return embed, features, image


def _expected(embed: Tensor, features: Tensor, image: Tensor) -> Tensor:
    logits = torch.einsum("plc,pchw->plhw", embed, features[image.clamp(min=0)])
    return logits * (image >= 0).view(-1, 1, 1, 1)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # in blocks, and by the native ops
def test_equals_one_product_a_pair(dtype: torch.dtype, counts: tuple[int, ...], channels_last: bool) -> None:
    embed, features, image = _inputs(counts, dtype=dtype)
    layout = features.to(memory_format=torch.channels_last) if channels_last else features
    weight = torch.randn(len(image), 2, 3, 5, dtype=dtype)
    logits = pair_dot(embed, layout, image, max(counts))
    expected = _expected(embed, features, image)
    torch.testing.assert_close(logits, expected)
    got = torch.autograd.grad((logits * weight).sum(), (embed, features))
    torch.testing.assert_close(got, torch.autograd.grad((expected * weight).sum(), (embed, features)))


def test_mixed_dtypes_are_promoted_also_under_autocast() -> None:
    embed, features, image = _inputs((3, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = pair_dot(embed.float(), features.bfloat16(), image, 3)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_is_a_proper_operator(dtype: torch.dtype) -> None:
    embed, features, image = _inputs((3, 2), dtype=dtype)
    torch.library.opcheck(torch.ops.maskformer_ext.pair_dot_opaque.default, (embed, features.flatten(2), image, 3))


@pytest.mark.parametrize("image", [[1, 0, -1], [0, -1, 1], [0, 0, 2], [-2, 0, 1]])
def test_rows_in_another_order_are_refused(image: list[int]) -> None:
    embed, features, _ = _inputs((2, 1), padding=0, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"pair_dot: image_index must ascend within \[0, 2\), then be -1"):
        pair_dot(embed, features, torch.tensor(image), 2)


Case = tuple[list[int], int, int, int]
CASES: list[Case] = [  # pairs of each image, layers, channels, pixels
    ([2, 0, 3], 2, 8, 24),
    ([40, 1], 4, 36, 70),
    ([0, 0], 3, 8, 16),
    ([3], 1, 5, 1100),
    ([1, 2], 2, 136, 33),
    ([35, 0, 33, 1], 4, 20, 271),  # more tiles than the stand-in has blocks at once
    ([1, 0] * 20, 1, 8, 24),  # more images than a warp has lanes
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
def test_logits_and_gradients(kernels, case: Case, dtype, channels_last):
    embed, features, image_index = draw(*case, dtype)
    grad = torch.randn(*embed.shape[:2], features.shape[2]).to(dtype)
    truth = expected(embed, features, image_index, grad)
    given = features.mT.contiguous().mT if channels_last else features
    logits = kernels.native.pair_dot(embed, given, image_index, False)
    grad_embed, grad_features = kernels.native.pair_dot_backward(grad, embed, given, image_index, False)
    allowed = {torch.float32: LARGEST_ERROR, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    for ours, theirs in zip((logits, grad_embed, grad_features), truth, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == dtype
        assert error(ours, theirs) <= allowed
    assert (logits[image_index < 0] == 0).all() and (grad_embed[image_index < 0] == 0).all()
    assert given.stride() == grad_features.stride()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "pixels"), [(16, 136), (13, 141)])
def test_memory_that_begins_anywhere(kernels, channels, pixels, dtype, channels_last):
    embed, features, image_index = draw([20, 9], 2, channels, pixels, dtype)
    features = features.mT.contiguous().mT if channels_last else features
    given = torch.randn(*embed.shape[:2], pixels).to(dtype), embed, features

    def run(grad, embed, features):
        return (
            kernels.native.pair_dot(embed, features, image_index, False),
            *kernels.native.pair_dot_backward(grad, embed, features, image_index, False),
        )

    expected = run(*given)
    for offsets in ((1, 0, 0), (0, 3, 0), (0, 0, 5), (6, 2, 1)):
        found = run(*(shifted(x, by) for x, by in zip(given, offsets, strict=True)))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("layout", ["channels", "channels_last", "pixels", "images", "one_image"])
def test_features_that_are_part_of_a_larger_tensor(kernels, layout):
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
        kernels.native.pair_dot(embed, given, image_index, False),
        *kernels.native.pair_dot_backward(grad, embed, given, image_index, False),
    )
    for ours, theirs in zip(found, truth, strict=True):
        assert error(ours, theirs) <= LARGEST_ERROR


@pytest.mark.cuda_kernels
def test_tf32_where_it_is_allowed(kernels):
    embed, features, image_index = draw([9, 4], 2, 64, 90)
    grad = torch.randn(*embed.shape[:2], features.shape[2])
    truth = expected(embed, features, image_index, grad)
    found = (
        kernels.native.pair_dot(embed, features, image_index, True),
        *kernels.native.pair_dot_backward(grad, embed, features, image_index, True),
    )
    for ours, theirs in zip(found, truth, strict=True):
        assert LARGEST_ERROR < error(ours, theirs) <= 2e-3


def test_no_pairs_and_no_pixels(kernels):
    embed, features, image_index = draw([0], 2, 8, 16, rows_without_image=0)
    assert kernels.native.pair_dot(embed, features, image_index, False).shape == (0, 2, 16)
    grad_embed, grad_features = kernels.native.pair_dot_backward(
        torch.zeros(0, 2, 16), embed, features, image_index, False
    )
    assert grad_embed.shape == embed.shape and (grad_features == 0).all()
    embed, features, image_index = draw([0], 2, 8, 16)
    grads = kernels.native.pair_dot_backward(torch.ones(3, 2, 16), embed, features[:0], image_index, False)
    assert (grads[0] == 0).all()
    embed, features, image_index = draw([2], 2, 8, 0)
    assert kernels.native.pair_dot(embed, features, image_index, False).shape == (5, 2, 0)
    grads = kernels.native.pair_dot_backward(torch.zeros(5, 2, 0), embed, features, image_index, False)
    assert (grads[0] == 0).all() and grads[1].shape == features.shape


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[20, 0, 7], [0, 0], [150, 3]], ids=str)
def test_the_public_op_and_its_gradients_are_close_and_repeatable(kernels, counts, dtype, channels_last):
    layers, channels, size = (6, 64, (40, 44)) if kernels.large else (2, 16, (5, 6))
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image = torch.cat([image, torch.full((5,), -1)])
    embed = torch.randn(len(image), layers, channels).to(dtype)
    features = torch.randn(len(counts), channels, *size).to(dtype)
    grad = torch.randn(len(image), layers, *size).to(dtype)

    def run(embed, features, grad):
        inputs = embed.detach().requires_grad_(), features.detach().requires_grad_()
        logits = kernels.pair_dot(*inputs, image, max(counts))
        return logits.detach(), *torch.autograd.grad(logits, inputs, grad)

    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    given = embed, features.to(memory_format=memory_format), grad
    exact = run(embed.double(), features.double(), grad.double())
    for ours, again, theirs in zip(run(*given), run(*given), exact, strict=True):
        assert error(ours, theirs) <= (LARGEST_ERROR if dtype == torch.float32 else 4e-3)
        assert torch.equal(ours, again)
