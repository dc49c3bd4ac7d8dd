"""`accelerate` on the detection models of transformers, beside transformers' own losses and matchers."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers.loss.loss_rf_detr")
pytest.importorskip("transformers.models.deimv2")

from detection_models import BUILDERS, CLASSES, build, inputs, labels
from transformers.loss import (
    loss_deformable_detr,
    loss_for_object_detection,
    loss_grounding_dino,
    loss_lw_detr,
    loss_rf_detr,
    loss_rt_detr,
)

from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.integrations.transformers_models import detr, detr_criteria, detr_matchers

REPLACES_NAN = pytest.mark.skipif(
    "nan_to_num" not in inspect.getsource(loss_for_object_detection.HungarianMatcher.forward),
    reason="this version of transformers fails where a cost is not finite",
)


def run(model: nn.Module, name: str, **options: Any) -> tuple[Any, dict[str, Tensor], Tensor]:
    """Return a step's outputs, its gradients and the state of the random numbers after it."""
    torch.manual_seed(5)
    outputs = model(**inputs(name), labels=labels(name), **options)
    model.zero_grad()
    if outputs.loss.requires_grad:
        outputs.loss.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    return outputs, gradients, torch.get_rng_state()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the results of all calls of our op."""
    found: list[Tensor] = []
    cost = detr_matchers.box_matching_cost

    def counted(*arguments: Any, **options: Any) -> Tensor:
        found.append(cost(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(detr_matchers, "box_matching_cost", counted)
    return found


@pytest.mark.parametrize("at_once", [False, True], ids=["each", "at_once"])
@pytest.mark.parametrize("name", BUILDERS)
def test_losses_gradients_and_random_numbers_are_transformers(name, at_once, calls, monkeypatch):
    model = build(name)
    expected, expected_gradients, expected_state = run(model, name)
    assert not calls
    monkeypatch.setattr(detr_criteria, "at_once", lambda logits: at_once)
    found, gradients, state = run(accelerate(model, verbose=False), name)
    assert calls
    assert len({cost.shape for cost in calls}) == len(calls) or not at_once or "Rf" in name or "Ground" in name
    assert found.loss_dict.keys() == expected.loss_dict.keys()
    for key, loss in expected.loss_dict.items():
        torch.testing.assert_close(found.loss_dict[key], loss, rtol=1e-6, atol=1e-6, msg=key)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-6, atol=0)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    for key, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=0, atol=1e-5 * largest, msg=key)
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("name", ["LwDetrForObjectDetection", "RTDetrForObjectDetection"])
def test_evaluation_with_labels(name, calls):
    model = build(name).eval()
    with torch.no_grad():
        expected = run(model, name)[0]
        found = run(accelerate(model, verbose=False), name)[0]
    assert calls
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-6, atol=0)


def test_a_softmax_of_the_real_time_models(calls):
    model = build("RTDetrForObjectDetection")
    model.config.use_focal_loss = False
    expected = run(model, "RTDetrForObjectDetection")[0]
    found = run(accelerate(model, verbose=False), "RTDetrForObjectDetection")[0]
    assert calls
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-6, atol=0)


def test_what_is_replaced_is_said_and_undone(calls):
    name = "DetrForObjectDetection"
    model = build(name)
    original, state = model.loss_function, list(model.state_dict())
    accelerate(model, verbose=False)
    assert "model (DetrForObjectDetection): its loss on box_matching_cost, linear_sum_assignment" in [
        str(one) for one in describe(model)
    ]
    assert list(model.state_dict()) == state and model.loss_function is not original
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        calls.clear()
        run(other, name)
        assert calls
    restore(model)
    calls.clear()
    run(model, name)
    assert model.loss_function is original and not calls


def test_nothing_of_transformers_is_patched(calls):
    accelerate(build("DetrForObjectDetection"), verbose=False)
    run(build("DetrForObjectDetection"), "DetrForObjectDetection")
    assert not calls


def test_a_loss_of_ones_own_is_left_alone():
    model = accelerate(build("DetrForObjectDetection"), verbose=False)

    def own(*arguments: Any, **options: Any) -> Any:
        return torch.zeros(()), {}, None

    model.loss_function = own
    assert model.loss_function is own
    assert float(run(model, "DetrForObjectDetection")[0].loss) == 0


def test_a_loss_function_that_looks_different_is_left_as_it_is():
    def changed(logits: Tensor) -> Tensor:
        return logits

    changed.__module__ = "transformers.loss.loss_of_another_version"
    assert detr.on_our_matchers(changed) is changed


WEIGHTS = (2.0, 5.0, 2.0)
CONFIG = {"matcher_class_cost": 2.0, "matcher_bbox_cost": 5.0, "matcher_giou_cost": 2.0}
CONFIG |= {"use_focal_loss": True, "matcher_alpha": 0.3, "matcher_gamma": 1.5}


def matchers() -> dict[str, nn.Module]:
    return {
        "softmax": loss_for_object_detection.HungarianMatcher(*WEIGHTS),
        "focal": loss_deformable_detr.DeformableDetrHungarianMatcher(*WEIGHTS),
        "configured": loss_rt_detr.RTDetrHungarianMatcher(SimpleNamespace(**CONFIG)),
        "groups": loss_lw_detr.LwDetrHungarianMatcher(*WEIGHTS),
        "text": loss_grounding_dino.GroundingDinoHungarianMatcher(*WEIGHTS),
        "masks": loss_rf_detr.RfDetrHungarianMatcher(*WEIGHTS),
    }


def predictions(images: int = 3, queries: int = 23) -> dict[str, Any]:
    boxes = torch.cat([torch.rand(images, queries, 2), torch.rand(images, queries, 2) * 0.3 + 0.05], -1)
    maps = tuple(torch.eye(CLASSES)[:3] + torch.eye(CLASSES).roll(3, 1)[:3] for _ in range(images))
    masks = torch.randn(images, queries, 8, 12)
    logits = torch.randn(images, queries, CLASSES)
    return {"logits": logits, "pred_boxes": boxes, "label_maps": maps, "pred_masks": masks}


def both(name: str, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> tuple[Any, Any]:
    """Return the pairs of transformers and ours, and check that both draw the same random numbers."""
    theirs = matchers()[name]
    ours = accelerate(copy.deepcopy(theirs), verbose=False)
    groups = (2,) if name in ("groups", "masks") else ()
    found = []
    for matcher in (theirs, ours):
        torch.manual_seed(0)
        found.append((matcher(outputs, targets, *groups), torch.get_rng_state()))
    assert torch.equal(found[0][1], found[1][1])
    return found[0][0], found[1][0]


def assert_same(expected: Any, found: Any) -> None:
    assert len(found) == len(expected)
    for image, theirs in zip(found, expected, strict=True):
        assert isinstance(image, tuple)
        for part, their_part in zip(image, theirs, strict=True):
            assert part.dtype == their_part.dtype and torch.equal(part, their_part)


@pytest.mark.parametrize("counts", [(3, 0, 6), (0, 0, 0), (40, 1, 12)], ids=str)
@pytest.mark.parametrize("name", matchers())
def test_pairs_are_transformers(name, counts, calls):
    """Also where Q = 23 does not divide into groups, and where there are more objects than queries."""
    for seed in range(3):
        torch.manual_seed(seed)
        assert_same(*both(name, predictions(), labels("Segmentation", counts)))
    assert len(calls) == 3


@pytest.mark.parametrize("name", matchers())
def test_degenerate_boxes_raise_as_in_transformers(name, calls):
    outputs, targets = predictions(), labels("Segmentation")
    outputs["pred_boxes"][1, 2, 3] = -0.1
    with pytest.raises(ValueError, match=r"boxes1 must be in .* format"):
        both(name, outputs, targets)
    ours = accelerate(matchers()[name], verbose=False)
    groups = (2,) if name in ("groups", "masks") else ()
    with pytest.raises(ValueError, match=r"boxes1 must be in .* format"):
        ours(outputs, targets, *groups)
    outputs["pred_boxes"][1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"boxes1 must be in .* format"):
        ours(outputs, targets, *groups)
    assert not calls


@pytest.mark.parametrize("name", ["softmax", "focal", "configured", "groups", "masks"])
def test_labels_that_count_from_the_end_go_through_the_original(name, calls):
    targets = labels("Segmentation")
    targets[0]["class_labels"][0] = -1
    assert_same(*both(name, predictions(), targets))
    assert not calls


def test_masks_that_are_not_binary_go_through_the_original(calls):
    targets = labels("Segmentation")
    for image in targets:
        image["masks"] = image["masks"] * 0.5
    assert_same(*both("masks", predictions(), targets))
    assert not calls


@pytest.mark.parametrize("name", ["softmax", "focal", "configured", "groups", "text"])
@REPLACES_NAN
def test_queries_that_are_not_finite_are_matched_last(name, calls):
    outputs = predictions()
    outputs["logits"][0, :8] = torch.nan
    outputs["logits"][2, 19:] = torch.nan
    assert_same(*both(name, outputs, labels("Segmentation", (3, 2, 7))))
    assert calls


@REPLACES_NAN
def test_a_forbidden_pair_does_not_spoil_the_others():
    """transformers' sentinel would: beside 3e38, differences between costs are lost."""
    outputs, targets = predictions(1, 5), labels("Segmentation", (5,))
    outputs["logits"][0, 4] = torch.nan
    queries, objects = both("focal", outputs, targets)[1][0]
    assert queries.tolist() == [0, 1, 2, 3, 4] and sorted(objects.tolist()) == [0, 1, 2, 3, 4]
    ours: Any = accelerate(matchers()["focal"], verbose=False)
    cost = ours.costs([outputs], targets, detr_matchers.BoxTargets.from_dicts(targets))[0, 0]
    least = min(
        float(cost[torch.arange(4), torch.tensor(order)].sum()) for order in itertools.permutations(range(5), 4)
    )
    assert float(cost[queries[:4], objects[:4]].sum()) == pytest.approx(least, rel=1e-6)
