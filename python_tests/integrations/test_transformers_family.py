"""What `accelerate` replaces in each model and image processor: nothing of the family may be lost unnoticed."""

from __future__ import annotations

import importlib
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("transformers.loss.loss_rf_detr")
pytest.importorskip("transformers.models.deimv2")
pytest.importorskip("transformers.models.eomt_dinov3")

import detection_models
from eomt_steps import make_model as make_eomt
from family_models import make_mask2former, make_maskformer, make_oneformer

from maskformer_ext.integrations.transformers import accelerate, describe
from maskformer_ext.integrations.transformers_models import detr
from maskformer_ext.integrations.transformers_models.processors import PROCESSOR_PARTS

WITH_MASKS = {
    "MaskFormerForInstanceSegmentation": make_maskformer,
    "Mask2FormerForUniversalSegmentation": make_mask2former,
    "OneFormerForUniversalSegmentation": make_oneformer,
    "EomtForUniversalSegmentation": make_eomt,
    "EomtDinov3ForUniversalSegmentation": lambda: make_eomt("EomtDinov3"),
}
CORE = {"MultiScaleDeformableAttention": "ms_deform_attn"}
LOSS = "box_matching_cost, linear_sum_assignment"
POINTS = "point_matching_cost, uncertain_points, point_mask_loss"

# Model: each class in it that is replaced, and words of what runs instead.
REPLACED: dict[str, dict[str, str]] = {
    "MaskFormerForInstanceSegmentation": {
        "MaskFormerForInstanceSegmentation": "on demand",
        "MaskFormerLoss": "matching_cost_from_embeddings, linear_sum_assignment, matched_mask_loss",
        "MaskFormerHungarianMatcher": "matching_cost, linear_sum_assignment",
    },
    "Mask2FormerForUniversalSegmentation": {
        "Mask2FormerForUniversalSegmentation": "on demand",
        "SwinMLP": "computed again",
        "Mask2FormerPixelDecoderEncoderLayer": "again in backward",
        "Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention": "ms_deform_attn",
        "Mask2FormerMaskedAttentionDecoder": "attention_mask",
        "Mask2FormerMaskedAttentionDecoderLayer": "scaled_dot_product_attention",
        "Mask2FormerLoss": "point_matching_cost_from_embeddings, linear_sum_assignment, uncertain_points, point_mask",
        "Mask2FormerHungarianMatcher": "point_matching_cost, linear_sum_assignment",
    },
    "OneFormerForUniversalSegmentation": {
        "SwinMLP": "computed again",
        "OneFormerPixelDecoderEncoderLayer": "again in backward",
        "OneFormerPixelDecoderEncoderMultiscaleDeformableAttention": "ms_deform_attn",
        "OneFormerTransformerDecoder": "attention_mask",
        "OneFormerTransformerDecoderQueryTransformerDecoderLayer": "scaled_dot_product_attention",
        "OneFormerTransformerDecoderLayer": "boolean masks",
        "OneFormerTransformerDecoderCrossAttentionLayer": "scaled_dot_product_attention",
        "OneFormerLoss": "point_matching_cost_from_embeddings, linear_sum_assignment, uncertain_points, point_mask",
        "OneFormerHungarianMatcher": "point_matching_cost, linear_sum_assignment",
    },
    **{
        f"{kind}ForUniversalSegmentation": {
            f"{kind}ForUniversalSegmentation": "boolean masks",
            f"{kind}Attention": "scaled_dot_product_attention",
            f"{kind}ScaleLayer": "computed again",
            f"{kind}Loss": "point_matching_cost_from_embeddings, linear_sum_assignment, uncertain_points, point_mask",
            f"{kind}HungarianMatcher": "point_matching_cost, linear_sum_assignment",
        }
        for kind in ("Eomt", "EomtDinov3")
    },
    **{
        f"{kind}ForObjectDetection": {f"{kind}ForObjectDetection": LOSS}
        for kind in ("ConditionalDetr", "DabDetr", "Detr", "TableTransformer", "Yolos")
    },
    **{
        f"{kind}ForSegmentation": {
            f"{kind}ForSegmentation": f"{LOSS}, matched_mask_loss",
            f"{kind}ForObjectDetection": LOSS,
            f"{kind}MaskHeadSmallConv": "once per image",
        }
        for kind in ("ConditionalDetr", "Detr")
    },
    **{
        f"{kind}ForObjectDetection": {f"{kind}ForObjectDetection": LOSS, **CORE}
        for kind in ("DeformableDetr", "GroundingDino", "LwDetr", "MMGroundingDino", "RTDetr", "RfDetr")
    },
    "RfDetrForInstanceSegmentation": {
        "RfDetrForInstanceSegmentation": f"{LOSS}, {POINTS}",
        "RfDetrForObjectDetection": LOSS,
        **CORE,
    },
    **{
        f"{kind}ForObjectDetection": {
            f"{kind}ForObjectDetection": LOSS,
            f"{kind}MultiscaleDeformableAttention": "ms_deform_attn",
        }
        for kind in ("DFine", "Deimv2", "RTDetrV2")
    },
    **{name: CORE for name in detection_models.WITHOUT_LOSS},
}

# Loss of a detection model: the classes of the criterion and the matcher that it makes.
MADE = {
    "ConditionalDetrForObjectDetection": ("DeformableDetrImageLoss", "DeformableDetrHungarianMatcher"),
    "ConditionalDetrForSegmentation": ("DeformableDetrImageLoss", "HungarianMatcher"),
    "DFineForObjectDetection": ("DFineLoss", "RTDetrHungarianMatcher"),
    "DabDetrForObjectDetection": ("DeformableDetrImageLoss", "DeformableDetrHungarianMatcher"),
    "DeformableDetrForObjectDetection": ("DeformableDetrImageLoss", "DeformableDetrHungarianMatcher"),
    "Deimv2ForObjectDetection": ("Deimv2Loss", "RTDetrHungarianMatcher"),
    "DetrForObjectDetection": ("ImageLoss", "HungarianMatcher"),
    "DetrForSegmentation": ("ImageLoss", "HungarianMatcher"),
    "GroundingDinoForObjectDetection": ("GroundingDinoImageLoss", "GroundingDinoHungarianMatcher"),
    "LwDetrForObjectDetection": ("LwDetrImageLoss", "LwDetrHungarianMatcher"),
    "MMGroundingDinoForObjectDetection": ("GroundingDinoImageLoss", "GroundingDinoHungarianMatcher"),
    "RTDetrForObjectDetection": ("RTDetrLoss", "RTDetrHungarianMatcher"),
    "RTDetrV2ForObjectDetection": ("RTDetrLoss", "RTDetrHungarianMatcher"),
    "RfDetrForInstanceSegmentation": ("RfDetrImageLoss", "RfDetrHungarianMatcher"),
    "RfDetrForObjectDetection": ("LwDetrImageLoss", "LwDetrHungarianMatcher"),
    "TableTransformerForObjectDetection": ("ImageLoss", "HungarianMatcher"),
    "YolosForObjectDetection": ("ImageLoss", "HungarianMatcher"),
}


def test_every_model_is_in_the_table() -> None:
    assert REPLACED.keys() == {*WITH_MASKS, *detection_models.BUILDERS, *detection_models.WITHOUT_LOSS}
    assert MADE.keys() == detection_models.BUILDERS.keys()


@pytest.mark.parametrize("name", REPLACED)
def test_what_is_replaced_in_a_model(name: str) -> None:
    build: Any = {**WITH_MASKS, **detection_models.BUILDERS, **detection_models.WITHOUT_LOSS}[name]
    model = accelerate(build(), verbose=False)
    found = describe(model)
    assert not [str(one) for one in found if one.left]
    assert {one.name for one in found} == REPLACED[name].keys()
    for one in found:
        assert REPLACED[name][one.name] in one.by
    present = Counter(type(module).__name__ for module in model.modules())
    for part, count in Counter(one.name for one in found).items():
        assert count == present[part]  # in every place


@pytest.mark.parametrize("name", MADE)
def test_what_the_loss_of_a_detection_model_is_made_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    swap = detr.swap

    def listed(instance: Any, mixin: Any) -> None:
        made.append(instance)
        swap(instance, mixin)

    monkeypatch.setattr(detr, "swap", listed)
    model = accelerate(detection_models.build(name), verbose=False)
    assert not made
    model(**detection_models.inputs(name), labels=detection_models.labels(name))
    assert sorted({type(one).__name__ for one in made}) == sorted(MADE[name])
    assert {one.left for criterion in made for one in describe(criterion)} == {""}


PROCESSORS = [name for part in PROCESSOR_PARTS for name in part.names]


def _processor_class(name: str) -> Any:
    model, _, kind = name.partition("ImageProcessor")
    folder = {"Mask2Former": "mask2former", "ConditionalDetr": "conditional_detr", "RfDetr": "rf_detr"}
    folder_name = folder.get(model, model.lower())
    try:
        module = importlib.import_module(
            f"transformers.models.{folder_name}.image_processing_{kind.lower() + '_' if kind else ''}{folder_name}"
        )
        return getattr(module, name)
    except (ImportError, AttributeError):
        return None


@pytest.mark.parametrize("name", [name for name in PROCESSORS if _processor_class(name)])
def test_every_post_processing_of_masks_is_replaced(name: str) -> None:
    known = _processor_class(name)
    processor = known.__new__(known)
    vars(processor).update(vars(SimpleNamespace(size=None)))
    accelerate(None, processor, verbose=False)
    assert [one.left for one in describe(None, processor)] == [""]
    for method in dir(known):
        if method.startswith("post_process_") and method.endswith("_segmentation"):
            assert getattr(type(processor), method) is not getattr(known, method), method


def test_predictions_without_labels_are_the_same() -> None:
    model = detection_models.build("DetrForSegmentation").eval()
    with torch.no_grad():
        theirs = model(**detection_models.inputs("DetrForSegmentation"))
        ours = accelerate(model, verbose=False)(**detection_models.inputs("DetrForSegmentation"))
    torch.testing.assert_close(ours.pred_masks, theirs.pred_masks, rtol=1e-4, atol=1e-5)
