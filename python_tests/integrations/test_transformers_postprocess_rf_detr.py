"""The processor of RF-DETR beside that of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from post_processing_cases import CLASSES, QUERIES, assert_same_results, both, outputs

module = pytest.importorskip("transformers.models.rf_detr.image_processing_rf_detr")

SIZES = [None, [(50, 61), (17, 90)], [[9, 11], [20, 28]]]
FORMS: list[dict[str, Any]] = [{}, {"return_coco_annotation": True}, {"return_binary_maps": True}]


def predictions(seed: int) -> Any:
    """Draw predictions of which one query has several classes, one no pixel, and one a single pixel."""
    given = outputs(seed)
    given.logits[0, 2] = 3.0 + torch.arange(CLASSES + 1) / 10
    given.pred_masks[0, 0] = -1
    given.pred_masks[0, 0, 3, 5] = 9
    given.pred_masks[1, 4] = -2
    given.logits[1, 4, 1] = 9
    return given


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("top_k", [None, 4, 500])
def test_instances(sizes, form, top_k) -> None:
    ours, theirs = both(module.RfDetrImageProcessor())
    segments = 0
    for seed, threshold, mask in ((0, 0.5, 0.0), (1, 0.2, -1.5), (2, 0.9, 1), (3, 0.0, 0.0)):
        options = {"threshold": threshold, "mask_threshold": mask, "target_sizes": sizes, "top_k": top_k, **form}
        given = predictions(seed)
        found = ours.post_process_instance_segmentation(given, **options)
        segments += assert_same_results(found, theirs.post_process_instance_segmentation(given, **options))
    assert segments > 8


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing_is_found_as_transformers_does(form) -> None:
    ours, theirs = both(module.RfDetrImageProcessor())
    given = outputs()
    for logits, masks in ((-50.0, 1.0), (3.0, -1.0)):  # no score, no pixel
        given.logits[:], given.pred_masks[:] = logits, masks
        found, expected = (
            one.post_process_instance_segmentation(given, target_sizes=[(40, 39), (37, 57)], **form)
            for one in (ours, theirs)
        )
        assert assert_same_results(found, expected) == 0


def test_both_forms_at_once_are_refused_as_in_transformers() -> None:
    for one in both(module.RfDetrImageProcessor()):
        with pytest.raises(ValueError, match="cannot both be"):
            one.post_process_instance_segmentation(outputs(), return_coco_annotation=True, return_binary_maps=True)


def test_a_mask_is_made_once_for_all_classes_of_its_query(monkeypatch) -> None:
    from maskformer_ext.integrations.transformers_models import rf_detr_post_processing as code

    made: list[int] = []
    ours = code.masks_in_boxes

    def counted(masks: torch.Tensor, *rest: Any) -> Any:
        made.append(len(masks))
        return ours(masks, *rest)

    monkeypatch.setattr(code, "masks_in_boxes", counted)
    given = outputs(images=1)
    given.logits[:] = 4.0
    processor, _ = both(module.RfDetrImageProcessor())
    processor.post_process_instance_segmentation(given, top_k=QUERIES * (CLASSES + 1))
    assert sum(made) == QUERIES
