"""Reducing the network's output in bands and strips gives what reducing it whole gives."""

from __future__ import annotations

import pytest
import torch

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference import reduction
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer


@pytest.mark.parametrize("size", [(70, 90), (20, 17)])
def test_per_pixel_classes_of_large_results_are_those_of_small_ones(monkeypatch, size) -> None:
    torch.manual_seed(0)
    output = QueryOutput(None, torch.randn(5, 8, 12), (32, 48), (30, 41))
    reduce = Reducer(["semantic"], None, InferenceConfig())
    expected = reduce.semantic(output, size).class_map
    monkeypatch.setattr(reduction, "_MOST_LOGITS", 0)
    assert torch.equal(reduce.semantic(output, size).class_map, expected)


def test_the_best_query_of_a_pixel_is_looked_up_in_strips(monkeypatch) -> None:
    torch.manual_seed(0)
    output = QueryOutput(torch.randn(6, 4), torch.randn(6, 8, 12), (32, 48), (32, 48))
    reduce = Reducer(["semantic"], None, InferenceConfig(semantic="argmax"))
    expected = reduce.semantic(output, (32, 48)).class_map
    monkeypatch.setattr(reduction, "_ROWS", 5)
    assert torch.equal(reduce.semantic(output, (32, 48)).class_map, expected)
    assert len(expected.unique()) > 1 and int(expected.max()) < 3
