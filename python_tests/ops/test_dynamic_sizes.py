"""Sizes and counts that are given as integers stay symbols in a compiled graph: one graph serves them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from op_checks import native_only
from torch._dynamo.testing import CompileCounter

from maskformer_ext import ops

SIZES = ((3, 4), (5, 6), (9, 8))


def attention_mask(height: int, width: int) -> torch.Tensor:
    return ops.attention_mask(torch.ones(2, 5, 6), torch.ones(2, 6, 7, 8), (height, width))


def ms_deform_attn(height: int, width: int) -> torch.Tensor:
    value = torch.ones(2, height * width + 4, 2, 4)
    return ops.ms_deform_attn(
        value, ((height, width), (2, 2)), torch.full((2, 5, 2, 2, 3, 2), 0.3), torch.ones(2, 5, 2, 2, 3)
    )


def semantic_scores(height: int, width: int) -> torch.Tensor:
    return ops.semantic_scores(torch.ones(3, 5), torch.ones(3, 6, 7), (height, width))


def uncertain_points(height: int, width: int) -> torch.Tensor:
    return ops.uncertain_points(torch.ones(2, 6, 7), torch.full((2, 3 * width, 2), 0.3), height)


@native_only
@pytest.mark.parametrize("call", [attention_mask, ms_deform_attn, semantic_scores, uncertain_points])
def test_one_graph_serves_all_sizes(call: Callable[[int, int], torch.Tensor]) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(call, fullgraph=True, backend=counter, dynamic=True)
    for size in SIZES:
        assert torch.equal(compiled(*size), call(*size))
    assert counter.frame_count == 1
