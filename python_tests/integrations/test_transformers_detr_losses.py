"""The mask losses of transformers' detection models, before and after `accelerate`."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("transformers.loss.loss_rf_detr")

from transformers.loss import loss_for_object_detection, loss_lw_detr, loss_rf_detr, loss_rt_detr

from maskformer_ext.integrations.transformers import accelerate
from maskformer_ext.integrations.transformers_models import detr_criteria, detr_masks

CLASSES, QUERIES = 5, 8
CONFIG: dict[str, Any] = {
    **{"matcher_class_cost": 2.0, "matcher_bbox_cost": 5.0, "matcher_giou_cost": 2.0, "matcher_alpha": 0.25},
    **{"matcher_gamma": 2.0, "use_focal_loss": True, "num_labels": CLASSES, "focal_loss_alpha": 0.25},
    **{"focal_loss_gamma": 2.0, "weight_loss_vfl": 1.0, "weight_loss_bbox": 5.0, "weight_loss_giou": 2.0},
    "eos_coefficient": 0.1,
}


def _rt_detr() -> nn.Module:
    criterion = loss_rt_detr.RTDetrLoss(SimpleNamespace(**CONFIG))
    criterion.losses = ["masks"]
    return criterion


CRITERIA = {
    "detr": lambda: loss_for_object_detection.ImageLoss(
        loss_for_object_detection.HungarianMatcher(1.0, 5.0, 2.0), CLASSES, 0.1, ["labels", "boxes", "masks"]
    ),
    "lw_detr": lambda: loss_lw_detr.LwDetrImageLoss(
        loss_lw_detr.LwDetrHungarianMatcher(2.0, 5.0, 2.0), CLASSES, 0.25, ["boxes", "masks"], 2
    ),
    "rt_detr": _rt_detr,
    "rf_detr": lambda: loss_rf_detr.RfDetrImageLoss(
        loss_rf_detr.RfDetrHungarianMatcher(2.0, 5.0, 2.0, 4, 5.0, 5.0), CLASSES, 0.25, ["labels", "masks"], 2, 4
    ),
}


def _layer() -> dict[str, Tensor]:
    boxes = torch.cat([torch.rand(3, QUERIES, 2), torch.rand(3, QUERIES, 2) * 0.3 + 0.05], -1)
    return {
        "logits": torch.randn(3, QUERIES, CLASSES + 1).requires_grad_(),
        "pred_boxes": boxes,
        "pred_masks": torch.randn(3, QUERIES, 9, 12).requires_grad_(),
    }


def _outputs() -> dict[str, Any]:
    torch.manual_seed(2)
    return {**_layer(), "auxiliary_outputs": [_layer()], "enc_outputs": _layer()}


def _labels(counts: tuple[int, ...] = (3, 0, 2), size: tuple[int, int] = (23, 30)) -> list[dict[str, Tensor]]:
    """Return segments that do not overlap."""
    torch.manual_seed(3)
    owner = [torch.randint(-1, max(1, count), size) for count in counts]
    return [
        {
            "class_labels": torch.randint(CLASSES, (count,)),
            "boxes": torch.rand(count, 4) * 0.3 + 0.2,
            "masks": segments == torch.arange(count).view(-1, 1, 1),
        }
        for count, segments in zip(counts, owner, strict=True)
    ]


def _run(criterion: nn.Module, labels: Any) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
    outputs = _outputs()
    torch.manual_seed(5)
    losses = criterion(outputs, labels)
    state = torch.get_rng_state()
    wanted = [layer["pred_masks"] for layer in (outputs, *outputs["auxiliary_outputs"], outputs["enc_outputs"])]
    total = sum(loss.sum() for name, loss in losses.items() if "mask" in name or "dice" in name)
    gradients = [torch.zeros(())] * len(wanted)
    if isinstance(total, Tensor) and total.requires_grad:
        gradients = list(torch.autograd.grad(total, wanted, materialize_grads=True))
    return losses, gradients, state


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of our ops that were called."""
    names: list[str] = []
    for op in ("matched_mask_loss", "point_mask_loss"):
        ours = getattr(detr_criteria, op)

        def counted(*arguments: Any, _op: str = op, _ours: Any = ours, **options: Any) -> Any:
            names.append(_op)
            return _ours(*arguments, **options)

        monkeypatch.setattr(detr_criteria, op, counted)
    return names


def _assert_same(name: str, labels: Any) -> None:
    theirs = CRITERIA[name]().train()
    losses, gradients, state = _run(theirs, labels)
    found, found_gradients, found_state = _run(accelerate(copy.deepcopy(theirs), verbose=False), labels)
    assert list(found) == list(losses) and torch.equal(found_state, state)
    for key, loss in losses.items():
        assert found[key].shape == loss.shape and found[key].dtype == loss.dtype
        torch.testing.assert_close(found[key], loss, rtol=1e-6, atol=1e-6, msg=key)
    for mine, other in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5 * float(other.abs().max()))


FORMS = {
    "bool": lambda mask: mask,
    "uint8": Tensor.byte,
    "float": Tensor.float,
    "int64": Tensor.long,
    "overlapping": lambda mask: mask | (torch.arange(mask.shape[1]) < 5).view(1, -1, 1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CRITERIA)
def test_mask_losses_are_transformers(name: str, form: str, calls: list[str]) -> None:
    labels = _labels()
    for image in labels:
        image["masks"] = FORMS[form](image["masks"])
    _assert_same(name, labels)
    assert set(calls) == {"point_mask_loss" if name == "rf_detr" else "matched_mask_loss"}
    assert name != "rf_detr" or len(calls) == 3


@pytest.mark.parametrize("name", CRITERIA)
def test_segment_maps_are_masks(name: str, calls: list[str]) -> None:
    labels = _labels()
    maps = copy.deepcopy(labels)
    for image in maps:
        masks = F.pad(image["masks"], (0, 0, 0, 0, 1, 0))  # the first one is void
        image["masks"] = masks.byte().argmax(0) - 1
    criterion = accelerate(CRITERIA[name]().train(), verbose=False)
    expected, found = _run(criterion, labels), _run(criterion, maps)
    for key, loss in expected[0].items():
        torch.testing.assert_close(found[0][key], loss, rtol=1e-6, atol=1e-6, msg=key)
    if name != "rf_detr":
        maps[1]["masks"] = maps[1]["masks"][:9]
        assert _run(criterion, maps)[0].keys() == expected[0].keys()


@pytest.mark.parametrize("counts", [(0, 0, 0), (11, 1, 12)], ids=str)
@pytest.mark.parametrize("name", CRITERIA)
def test_no_objects_and_more_objects_than_queries(name: str, counts: tuple[int, ...]) -> None:
    _assert_same(name, _labels(counts))


@pytest.mark.parametrize("name", ["detr", "lw_detr", "rt_detr"])
def test_masks_of_other_sizes_are_padded_as_in_transformers(name: str, calls: list[str]) -> None:
    labels = _labels()
    labels[0]["masks"] = labels[0]["masks"][:, :11]
    labels[1]["masks"] = labels[1]["masks"][..., :17]
    _assert_same(name, labels)
    assert set(calls) == {"matched_mask_loss"}


def test_masks_of_other_sizes_raise_for_rf_detr_as_in_transformers() -> None:
    labels = _labels()
    labels[0]["masks"] = labels[0]["masks"][:, :11]
    for criterion in (CRITERIA["rf_detr"](), accelerate(CRITERIA["rf_detr"](), verbose=False)):
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            _run(criterion, labels)


@pytest.mark.parametrize("form", [lambda mask: mask * 0.5, lambda mask: mask.byte() * 255], ids=["soft", "255"])
@pytest.mark.parametrize("name", CRITERIA)
def test_masks_that_are_not_binary_go_through_the_original(name: str, form: Any, calls: list[str]) -> None:
    labels = _labels()
    for image in labels:
        image["masks"] = form(image["masks"])
    _assert_same(name, labels)
    assert not calls


def test_predictions_without_masks_raise_as_in_transformers() -> None:
    criterion: Any = accelerate(CRITERIA["detr"](), verbose=False)
    with pytest.raises(KeyError, match="No predicted masks"):
        criterion.loss_masks({}, _labels(), [], 1.0)


def test_labels_are_converted_once_for_all_layers_of_rf_detr(monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    ours = detr_masks.make_mask_targets

    def counted(*arguments: Any, **options: Any) -> Any:
        converted.append(True)
        return ours(*arguments, **options)

    monkeypatch.setattr(detr_masks, "make_mask_targets", counted)
    criterion = accelerate(CRITERIA["rf_detr"]().train(), verbose=False)
    for calls in (1, 2):
        _run(criterion, _labels())
        assert len(converted) == calls
