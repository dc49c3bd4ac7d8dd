"""Masks of positive logits and the sums of their probabilities, in one pass over what is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.ops.support import row_runs

SIZES = [(1, 1), (3, 8), (9, 63), (5, 64), (4, 65), (33, 200)]

pytestmark = pytest.mark.skipif(not row_runs.has_positive_masks(torch.zeros(1)), reason="there is no native library")


def logits_of(size: tuple[int, int], *, queries: int = 6) -> torch.Tensor:
    """Draw logits: one query without a pixel, one that is full."""
    logits = 4 * torch.randn(queries, *size, generator=torch.Generator().manual_seed(0))
    logits[1] = -logits[1].abs()
    logits[2] = logits[2].abs() + 1
    return logits


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_and_their_sums(size: tuple[int, int], threads: int) -> None:
    logits, queries = logits_of(size), torch.tensor([5, 0, 2, 1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sums, pixels, bits = row_runs.positive_masks(logits, queries)
    finally:
        torch.set_num_threads(before)
    chosen = logits[queries]
    inside = chosen > 0
    assert np.array_equal(bits, np.packbits(inside.numpy(), axis=-1, bitorder="little"))
    assert torch.equal(pixels, inside.flatten(1).sum(1))
    expected = (chosen.double().sigmoid() * inside).flatten(1).sum(1)
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0)


def test_strides_are_followed() -> None:
    logits, queries = logits_of((20, 70)), torch.arange(6)
    expected = row_runs.positive_masks(logits[:, 2:, :65].contiguous(), queries)
    for view in (logits[:, 2:, :65], logits.transpose(1, 2).contiguous().transpose(1, 2)[:, 2:, :65]):
        for found, other in zip(row_runs.positive_masks(view, queries), expected, strict=True):
            assert np.array_equal(np.asarray(found), np.asarray(other))


def test_infinite_logits_count_and_a_nan_spoils_the_sum() -> None:
    logits = torch.full((3, 5, 70), -1.0)
    logits[0, 0, 0] = logits[0, 4, 69] = torch.inf
    logits[1] = -torch.inf
    logits[2, 3, 68] = torch.nan
    sums, pixels, bits = row_runs.positive_masks(logits, torch.arange(3))
    assert sums[:2].tolist() == [2.0, 0.0] and sums[2].isnan()
    assert pixels.tolist() == [2, 0, 0] and bits[1:].sum() == 0


def test_no_queries_have_no_masks() -> None:
    sums, pixels, bits = row_runs.positive_masks(torch.zeros(2, 3, 9), torch.zeros(0, dtype=torch.int64))
    assert len(sums) == len(pixels) == 0 and bits.shape == (0, 3, 2)
