"""The processor's methods of `accelerate` beside those of transformers."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch

from maskformer_ext.integrations.transformers import accelerate

transformers = pytest.importorskip("transformers")

CLASSES, QUERIES = 5, 9


def _outputs(seed: int = 0, images: int = 2) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.nn.functional.interpolate(torch.randn(images, QUERIES, 5, 6, generator=generator) * 4, (20, 28))
    masks = masks + 0.1 * torch.randn(masks.shape, generator=generator)
    classes = 3 * torch.randn(images, QUERIES, CLASSES + 1, generator=generator)
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


def _processors():
    pair = transformers.MaskFormerImageProcessor(), transformers.MaskFormerImageProcessor()
    accelerate(None, pair[0])
    return pair


SIZES = [None, [(50, 61), (17, 90)], [(9, 11), (20, 28)]]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_semantic_post_processing(sizes, seed: int) -> None:
    ours, theirs = _processors()
    outputs = _outputs(seed)
    found = ours.post_process_semantic_segmentation(outputs, sizes)
    expected = theirs.post_process_semantic_segmentation(outputs, sizes)
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype and torch.equal(mine, other)
    if "return_segmentation_scores" not in inspect.signature(theirs.post_process_semantic_segmentation).parameters:
        return  # a version that returns labels only
    found = ours.post_process_semantic_segmentation(outputs, sizes, return_segmentation_scores=True)
    expected = theirs.post_process_semantic_segmentation(outputs, sizes, return_segmentation_scores=True)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.segmentation_scores, other.segmentation_scores)
        assert torch.equal(mine["segmentation"], other["segmentation"])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("fused", [None, {0, 2}, set(range(CLASSES))])
@pytest.mark.parametrize("overlap", [0.8, 0.2])
def test_panoptic_post_processing(sizes, fused, overlap: float) -> None:
    ours, theirs = _processors()
    for seed in range(4):
        options = {"threshold": 0.4, "overlap_mask_area_threshold": overlap, "label_ids_to_fuse": fused}
        found = ours.post_process_panoptic_segmentation(_outputs(seed), target_sizes=sizes, **options)
        expected = theirs.post_process_panoptic_segmentation(_outputs(seed), target_sizes=sizes, **options)
        for mine, other in zip(found, expected, strict=True):
            assert mine["segments_info"] == other["segments_info"]
            assert mine["segmentation"].dtype == other["segmentation"].dtype
            assert torch.equal(mine["segmentation"], other["segmentation"])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("form", [{}, {"return_coco_annotation": True}, {"return_binary_maps": True}])
@pytest.mark.parametrize("threshold", [0.3, 0.99])
def test_instance_post_processing(sizes, form, threshold: float) -> None:
    ours, theirs = _processors()
    for seed in range(4):
        outputs = _outputs(seed)
        outputs.masks_queries_logits[0, 0] = -1
        outputs.masks_queries_logits[0, 0, 3, 5] = 9  # one pixel, which a smaller size may not look at
        options = {"threshold": threshold, "target_sizes": sizes, **form}
        found = ours.post_process_instance_segmentation(outputs, **options)
        expected = theirs.post_process_instance_segmentation(outputs, **options)
        for mine, other in zip(found, expected, strict=True):
            assert mine["segments_info"] == other["segments_info"]
            if isinstance(other["segmentation"], list):
                assert mine["segmentation"] == other["segmentation"]
            else:
                assert mine["segmentation"].dtype == other["segmentation"].dtype
                assert torch.equal(mine["segmentation"], other["segmentation"])


def test_post_processing_finds_nothing_as_transformers_does() -> None:
    ours, theirs = _processors()
    outputs = _outputs()
    outputs.class_queries_logits[..., -1] = 50.0
    for name in ("panoptic", "instance"):
        method = f"post_process_{name}_segmentation"
        found, expected = (getattr(one, method)(outputs, target_sizes=[(8, 9), (7, 7)]) for one in (ours, theirs))
        for mine, other in zip(found, expected, strict=True):
            assert mine["segments_info"] == other["segments_info"] == []
            assert torch.equal(mine["segmentation"], other["segmentation"])
    with pytest.raises(ValueError, match="as many target sizes"):
        ours.post_process_semantic_segmentation(outputs, [(4, 4)])
