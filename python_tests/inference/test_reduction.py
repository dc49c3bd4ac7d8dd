"""Reducing the network's output in bands and strips gives what reducing it whole gives."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize("size", [(300, 410), (61, 83), (7, 5)])
@pytest.mark.parametrize("cells", [3, 12])
def test_classes_that_win_nowhere_near_are_not_looked_at(monkeypatch, size, cells) -> None:
    torch.manual_seed(0)
    regions = torch.nn.functional.interpolate(9 * torch.randn(1, 40, cells, cells), (25, 33), mode="bilinear")[0]
    output = QueryOutput(None, regions + 0.1 * torch.randn(40, 25, 33), (100, 132), (97, 129))
    reduce = Reducer(["semantic"], None, InferenceConfig())
    expected = reduce.semantic(output, size).class_map
    looked: list[int] = []
    stored = reduction.Stored
    monkeypatch.setattr(reduction, "_MOST_LOGITS", 0)

    def watched(values: torch.Tensor) -> Any:
        looked.append(len(values))
        return stored(values)

    monkeypatch.setattr(reduction, "Stored", watched)
    assert torch.equal(reduce.semantic(output, size).class_map, expected)
    assert len(expected.unique()) > 3
    assert min(looked) >= 1 and (cells > 3 or sum(looked) < 0.5 * 40 * len(looked))


def test_a_class_that_is_not_a_number_is_looked_at(monkeypatch) -> None:
    logits = torch.zeros(4, 8, 8)
    logits[1], logits[2, 4, 4] = 9, torch.nan
    assert reduction._possible_classes(logits).tolist() == [[True] * 8] * 4


def test_the_best_query_of_a_pixel_is_looked_up_in_strips(monkeypatch) -> None:
    torch.manual_seed(0)
    output = QueryOutput(torch.randn(6, 4), torch.randn(6, 8, 12), (32, 48), (32, 48))
    reduce = Reducer(["semantic"], None, InferenceConfig(semantic="argmax"))
    expected = reduce.semantic(output, (32, 48)).class_map
    monkeypatch.setattr(reduction, "_ROWS", 5)
    assert torch.equal(reduce.semantic(output, (32, 48)).class_map, expected)
    assert len(expected.unique()) > 1 and int(expected.max()) < 3
