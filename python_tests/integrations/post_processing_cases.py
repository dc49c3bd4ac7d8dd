"""Predictions and comparisons of the tests of transformers' image processors."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from maskformer_ext.integrations.transformers import accelerate, describe

CLASSES, QUERIES = 5, 9
_SEMANTIC = transformers.MaskFormerImageProcessor.post_process_semantic_segmentation
_HAS_SCORES = "return_segmentation_scores" in inspect.signature(_SEMANTIC).parameters
SCORES = [{}, {"return_segmentation_scores": True}] if _HAS_SCORES else [{}]
"""Options of semantic maps; older versions have none."""


def outputs(seed: int = 0, images: int = 2, size: tuple[int, int] = (20, 28)) -> SimpleNamespace:
    """Draw predictions with distinct regions, under the names of every model."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.nn.functional.interpolate(torch.randn(images, QUERIES, 5, 6, generator=generator) * 4, size)
    masks = masks + 0.1 * torch.randn(masks.shape, generator=generator)
    classes = 3 * torch.randn(images, QUERIES, CLASSES + 1, generator=generator)
    return SimpleNamespace(
        class_queries_logits=classes, masks_queries_logits=masks, logits=classes, pred_masks=masks, patch_offsets=None
    )


def is_left(processor: Any) -> bool:
    """Return whether `accelerate` leaves a processor as it is."""
    accelerate(None, processor, verbose=False)
    return any(found.left for found in describe(None, processor))


def both(theirs: Any) -> tuple[Any, Any]:
    """Return an accelerated copy of a processor, and the processor."""
    ours = copy.deepcopy(theirs)
    accelerate(None, ours, verbose=False)
    return ours, theirs


def assert_same_results(found: list[dict], expected: list[dict], score: float = 0.0) -> int:
    """Compare segments, facts and types; `score`: by how much a score may differ. Return how many there are."""
    segments = 0
    for mine, other in zip(found, expected, strict=True):
        assert mine.keys() == other.keys()
        facts = [[{k: v for k, v in one.items() if k != "score"} for one in r["segments_info"]] for r in (mine, other)]
        assert facts[0] == facts[1]
        for a, b in zip(mine["segments_info"], other["segments_info"], strict=True):
            assert abs(a["score"] - b["score"]) <= score and list(a) == list(b)
            assert {key: type(value) for key, value in a.items()} == {key: type(value) for key, value in b.items()}
        segments += len(other["segments_info"])
        if isinstance(other["segmentation"], list):
            assert mine["segmentation"] == other["segmentation"]
            for runs, theirs in zip(mine["segmentation"], other["segmentation"], strict=True):
                assert [type(run) for run in runs] == [type(run) for run in theirs]
        else:
            assert mine["segmentation"].dtype == other["segmentation"].dtype
            assert mine["segmentation"].device == other["segmentation"].device
            assert torch.equal(mine["segmentation"], other["segmentation"])
    return segments


def assert_same_maps(found: list, expected: list) -> None:
    """Compare semantic maps, or transformers' records of maps and scores."""
    for mine, other in zip(found, expected, strict=True):
        if not isinstance(other, torch.Tensor):
            assert type(mine) is type(other)
            torch.testing.assert_close(mine.segmentation_scores, other.segmentation_scores)
            mine, other = mine.segmentation, other.segmentation
        assert mine.dtype == other.dtype and torch.equal(mine, other)
