"""Mask logits of pairs: both ways of forming them, against one product a pair."""

from __future__ import annotations

import pytest
import torch
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
