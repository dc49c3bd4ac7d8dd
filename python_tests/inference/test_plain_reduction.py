"""The reduction of exported programs against the ops, whose semantics it must have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference.programs import plain_reduction
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer

INPUT, SIZE = (48, 64), (45, 61)
THINGS = (0, 2, 3)


def _prediction(seed: int, batch: int = 2, queries: int = 20, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return class and mask logits of a confident network with large masks, two of whose queries are not finite."""
    torch.manual_seed(seed)
    class_logits = 4 * torch.randn(batch, queries, classes + 1)
    mask_logits = 12 * F.interpolate(torch.randn(batch, queries, 4, 5), (12, 16), mode="bilinear") - 1
    class_logits[0, 3, 1] = torch.nan
    class_logits[1, :, 5] = -torch.inf  # a class that was masked out
    mask_logits[1, 7, 2, 2] = torch.inf
    return class_logits, mask_logits


def _of_ops(class_logits: torch.Tensor, mask_logits: torch.Tensor, task: str, **settings) -> list:
    reduce = Reducer([task], THINGS, InferenceConfig(**settings))
    pairs = zip(class_logits, mask_logits, strict=True)
    return [getattr(reduce, task)(QueryOutput(classes, masks, INPUT, SIZE), SIZE) for classes, masks in pairs]


def _plain(class_logits: torch.Tensor, mask_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    probability, masks = plain_reduction.count_queries(class_logits, mask_logits)
    return probability, plain_reduction.resize_masks(masks, INPUT, SIZE)


def _things(classes: int = 6) -> torch.Tensor:
    return torch.tensor([label in THINGS for label in range(classes)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("semantic", ["sum", "argmax"])
def test_classes_are_those_of_the_op(seed: int, semantic: str) -> None:
    prediction = _prediction(seed)
    probability, masks = _plain(*prediction)
    if semantic == "sum":
        found = plain_reduction.semantic_scores(probability, masks).argmax(1)
    else:
        found = plain_reduction.best_query_classes(probability, masks)
    expected = torch.stack([result.class_map for result in _of_ops(*prediction, "semantic", semantic=semantic)])
    assert float((found == expected).float().mean()) > 0.998


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_segments_are_those_of_the_op(seed: int, overlap: float) -> None:
    prediction = _prediction(seed)
    options: dict[str, Any] = {"object_mask_threshold": 0.6, "overlap_threshold": overlap}
    found = plain_reduction.panoptic_segments(*_plain(*prediction), _things(), **options)
    for place, expected in enumerate(_of_ops(*prediction, "panoptic", **options)):
        assert float((found["segment_map"][place] == expected.segment_map).float().mean()) > 0.998
        count = len(expected.segments_info)
        rows = {name: found[name][place] for name in ("ids", "labels", "scores", "areas")}
        assert rows["ids"].tolist() == [info["id"] for info in expected.segments_info] + [0] * (20 - count)
        assert rows["labels"].tolist() == [info["category_id"] for info in expected.segments_info] + [-1] * (20 - count)
        torch.testing.assert_close(
            rows["scores"][:count], torch.tensor([info["score"] for info in expected.segments_info]).float()
        )
        areas = [info["area"] for info in expected.segments_info]
        assert rows["areas"].tolist() == pytest.approx(areas + [0] * (20 - count), abs=4)
        assert not rows["scores"][count:].any()


def test_stuff_of_a_class_is_one_segment_and_things_are_several() -> None:
    class_logits = torch.full((1, 4, 4), -9.0)
    class_logits[0, [0, 1, 2, 3], [1, 0, 1, 0]] = 9.0  # stuff, thing, stuff, thing: a quarter of the image each
    mask_logits = torch.full((1, 4, 2, 2), -9.0)
    for query in range(4):
        mask_logits[0, query, query // 2, query % 2] = 9.0
    probability, masks = plain_reduction.count_queries(class_logits, mask_logits)
    masks = F.interpolate(masks, scale_factor=2, mode="nearest")
    things = torch.tensor([True, False, False])
    found = plain_reduction.panoptic_segments(
        probability, masks, things, object_mask_threshold=0.5, overlap_threshold=0.5
    )
    assert found["segment_map"][0, ::2, ::2].tolist() == [[1, 2], [1, 3]]
    assert found["labels"][0].tolist() == [1, 0, 0, -1]
    assert found["areas"][0].tolist() == [8, 4, 4, 0]


def test_an_image_without_a_confident_query_is_void() -> None:
    class_logits = torch.zeros(1, 4, 4)
    found = plain_reduction.panoptic_segments(
        *plain_reduction.count_queries(class_logits, torch.ones(1, 4, 8, 8)),
        torch.ones(3, dtype=torch.bool),
        object_mask_threshold=0.8,
        overlap_threshold=0.8,
    )
    assert not found["segment_map"].any() and not found["ids"].any() and not found["areas"].any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("top_k", "threshold"), [(10, 0.5), (400, 0.3)])
def test_instances_are_those_of_the_op(seed: int, top_k: int, threshold: float) -> None:
    class_logits, mask_logits = _prediction(seed)
    probability, masks = plain_reduction.count_queries(class_logits, mask_logits)
    found = plain_reduction.instances(probability, masks, _things(), INPUT, SIZE, top_k=top_k, mask_threshold=threshold)
    assert found["masks"].shape == (2, min(top_k, 120), *SIZE)
    for place, expected in enumerate(
        _of_ops(class_logits, mask_logits, "instance", top_k=top_k, mask_threshold=threshold)
    ):
        rows = found["labels"][place] >= 0
        positive = expected.scores > 0  # a masked class has probability 0, which the op lists too
        assert found["labels"][place][rows].tolist() == expected.labels[positive].tolist()
        torch.testing.assert_close(found["scores"][place][rows], expected.scores[positive])
        torch.testing.assert_close(found["boxes"][place][rows], expected.boxes[positive], atol=1, rtol=0)
        assert float((found["masks"][place][rows] == expected.masks[positive]).float().mean()) > 0.999
        assert not found["masks"][place][~rows].any() and not found["boxes"][place][~rows].any()
