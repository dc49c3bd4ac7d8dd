"""Matching and losses: the golden cases, and what must hold for awkward batches."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from golden_models import ROOT
from tiny import tiny_config
from torch import Tensor
from typed import present

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import CriterionConfig
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import DenseOutput, MaskFormerOutput
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

CASES = json.loads((ROOT / "criterion.json").read_text())


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(ROOT / "criterion.npz") as stored:
        return dict(stored)


WEIGHTS = ("class_weight", "mask_weight", "dice_weight", "no_object_weight", "box_weight", "giou_weight")


def _as_embeddings(class_logits: Tensor, mask_logits: Tensor) -> MaskFormerOutput:
    """Give mask logits as embeddings of unit features: one channel per pixel."""
    *_, height, width = mask_logits.shape
    features = torch.eye(height * width).unflatten(1, (height, width)).expand(mask_logits.shape[1], -1, -1, -1)
    return MaskFormerOutput(class_logits, mask_logits.flatten(3), features)


def _golden_case(name: str, arrays: dict[str, np.ndarray]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    logits, masks = (
        torch.from_numpy(arrays[f"{name}/{key}"]).float().requires_grad_() for key in ("pred_logits", "pred_masks")
    )
    images = range(CASES[name]["B"])
    segments = [torch.from_numpy(arrays[f"{name}/target{image}/masks"]) for image in images]
    labels = [torch.from_numpy(arrays[f"{name}/target{image}/labels"]).long() for image in images]
    return logits, masks, segments, labels


@pytest.mark.parametrize("output", [_as_embeddings, DenseOutput], ids=["embeddings", "mask logits"])
@pytest.mark.parametrize("form", [SegmentTargets, MaskTargets], ids=["segment map if possible", "masks"])
@pytest.mark.parametrize("name", [key for key in CASES if key != "elementary"])
def test_golden_losses_assignments_and_gradients(name: str, form, output, arrays: dict[str, np.ndarray]) -> None:
    facts = CASES[name]
    class_logits, mask_logits, masks, labels = _golden_case(name, arrays)
    out = output(class_logits, mask_logits)
    targets = form.from_masks(masks, labels)
    criterion = MaskFormerCriterion(facts["K"])
    total, losses, stats = criterion(out, targets)
    total.backward()

    assert set(losses) == set(facts["losses_unweighted"])
    for key, expected in facts["losses_unweighted"].items():
        assert losses[key].item() == pytest.approx(expected, rel=1e-5, abs=1e-5), key
    assert total.item() == pytest.approx(facts["total_weighted"], rel=1e-5)
    assert {key: int(count) for key, count in stats.items()} == {"nonfinite_queries": 0, "invalid_targets": 0}

    grad_logits = arrays[f"{name}/grad_logits"]
    assert np.abs(present(class_logits.grad).numpy() - grad_logits).max() <= 1e-4 * np.abs(grad_logits).max()
    query = criterion.matcher(out, targets)
    grad_masks = present(mask_logits.grad)
    for layer, key in enumerate(facts["layer_order"]):
        for image in range(facts["B"]):
            queries, segments = arrays[f"{name}/match/{key}/{image}"]
            assert query[layer, image, segments].tolist() == queries.tolist()
            expected = torch.zeros_like(grad_masks[layer, image])
            expected[queries] = torch.from_numpy(arrays[f"{name}/grad_masks/{key}/{image}"]).float()
            error = (grad_masks[layer, image] - expected).abs().max()
            assert error <= 1e-4 * expected.abs().max()


def _random_batch(*, sizes=(3, 0, 5), queries=6, classes=4, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    batch = len(sizes)
    out = MaskFormerOutput(
        draw(layers, batch, queries, classes + 1), draw(layers, batch, queries, 8), draw(batch, 8, 7, 9)
    )
    owner = torch.stack(
        [torch.randint(-1, max(n, 1), (26, 33), generator=generator) if n else torch.full((26, 33), -1) for n in sizes]
    )
    labels = torch.randint(0, classes, (batch, max(sizes)), generator=generator)
    return out, SegmentTargets(owner.int(), labels, torch.tensor(sizes))


def test_segment_map_and_masks_give_the_same_losses() -> None:
    out, targets = _random_batch()
    for ignore_void in (False, True):
        criterion = MaskFormerCriterion(4, ignore_void=ignore_void)
        by_map, by_masks = criterion(out, targets)[1], criterion(out, targets.to_masks())[1]
        for key, loss in by_map.items():
            torch.testing.assert_close(loss, by_masks[key], msg=key)


def test_ignored_void_pixels_change_nothing() -> None:
    out, targets = _random_batch()
    criterion = MaskFormerCriterion(4, ignore_void=True)
    assert criterion(out, targets)[0] != MaskFormerCriterion(4)(out, targets)[0]
    everything_void = SegmentTargets(torch.full_like(targets.segment_map, -1), targets.labels, targets.num_segments)
    _, losses, _ = criterion(out, everything_void)
    assert losses["loss_mask"] == 0


def test_padding_of_labels_and_pairs_changes_nothing() -> None:
    out, targets = _random_batch()
    wide = torch.nn.functional.pad(targets.labels, (0, 70), value=-7)
    padded = SegmentTargets(targets.segment_map, wide, targets.num_segments)
    for loss, expected in zip(
        MaskFormerCriterion(4)(out, padded)[1].values(), MaskFormerCriterion(4)(out, targets)[1].values(), strict=True
    ):
        torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_images_without_segments_keep_gradients_connected() -> None:
    out, targets = _random_batch(sizes=(0, 0))
    total, losses, _ = MaskFormerCriterion(4)(out, targets)
    total.backward()
    assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0
    assert out.class_logits.grad.abs().sum() > 0
    for tensor in (out.mask_embed, out.mask_features):
        assert tensor.grad is not None and tensor.grad.abs().sum() == 0


def test_more_segments_than_queries_matches_every_query() -> None:
    out, targets = _random_batch(sizes=(9, 2), queries=4)
    criterion = MaskFormerCriterion(4)
    query = criterion.matcher(out, targets)
    assert all(sorted(row[row >= 0].tolist()) == [0, 1, 2, 3] for row in query[:, 0])
    total, _, _ = criterion(out, targets)
    total.backward()
    assert out.mask_embed.grad[:, 0].abs().sum(-1).gt(0).all()


def test_num_masks_divides_the_mask_losses_only() -> None:
    out, targets = _random_batch()
    criterion = MaskFormerCriterion(4)
    default, given = criterion(out, targets)[1], criterion(out, targets, torch.tensor(16.0))[1]
    torch.testing.assert_close(given["loss_ce"], default["loss_ce"])
    torch.testing.assert_close(given["loss_mask"] * 2, default["loss_mask"])  # 8 segments
    torch.testing.assert_close(given["loss_dice_0"] * 2, default["loss_dice_0"])


def test_total_is_the_weighted_sum() -> None:
    out, targets = _random_batch(layers=3)
    criterion = MaskFormerCriterion(4, class_weight=2.0, mask_weight=5.0, dice_weight=0.5)
    total, losses, _ = criterion(out, targets)
    weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 0.5}
    expected = sum(weights[key.rstrip("_012")] * loss for key, loss in losses.items())
    assert set(losses) == {f"{name}{suffix}" for name in weights for suffix in ("", "_0", "_1")}
    torch.testing.assert_close(total, expected)


def test_nonfinite_queries_are_counted_and_the_others_still_matched() -> None:
    out, targets = _random_batch(sizes=(2, 2))
    with torch.no_grad():
        out.class_logits[0, 0, 1, 2] = float("nan")
        out.class_logits[1, 0, 3, 0] = float("-inf")  # a masked class is legal
        out.mask_embed[1, 1, 4] = float("inf")
    criterion = MaskFormerCriterion(4)
    query = criterion.matcher(out, targets)
    assert 1 not in query[0, 0].tolist() and 4 not in query[1, 1].tolist()
    total, losses, stats = criterion(out, targets)
    assert stats["nonfinite_queries"] == 2
    assert total.isnan() and losses["loss_mask"].isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_losses(dtype: torch.dtype) -> None:
    out, targets = _random_batch()
    half = MaskFormerOutput(*(tensor.to(dtype) for tensor in (out.class_logits, out.mask_embed, out.mask_features)))
    total, losses, _ = MaskFormerCriterion(4)(half, targets)
    total.backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert out.mask_features.grad.isfinite().all()


def test_memory_follows_the_segments_and_not_the_padding() -> None:
    shapes = []
    original = torch.ops.maskformer_ext.pair_dot_opaque.default

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is original:
                shapes.append(tuple(result.shape))
            return result

    out, targets = _random_batch(sizes=(70, 1, 1, 1), queries=80)
    with Watch():
        MaskFormerCriterion(4)(out, targets)
    assert shapes == [(128, 2, 63)]  # 73 segments rounded up, not 4 x 70


def test_fixed_matching_trains_query_k_for_class_k():
    torch.manual_seed(0)
    labels = torch.tensor([[3, 0, 1], [2, 0, 0]])
    targets = SegmentTargets(torch.randint(-1, 1, (2, 8, 8), dtype=torch.int32), labels, torch.tensor([3, 1]))
    inputs = [torch.randn(*shape).requires_grad_() for shape in ((2, 2, 5, 5), (2, 2, 5, 4), (2, 4, 4, 4))]
    criterion = MaskFormerCriterion(4, matching="fixed")
    assert criterion.matcher(MaskFormerOutput(*inputs), targets)[0].tolist() == [[3, 0, 1], [2, -1, -1]]
    total, losses, _ = criterion(MaskFormerOutput(*inputs), targets)
    (gradient,) = torch.autograd.grad(losses["loss_mask"] + losses["loss_dice"], inputs[1])
    learns = gradient[-1].abs().sum(-1) > 0
    assert learns.tolist() == [[True, True, False, True, False], [False, False, True, False, False]]
    assert total.isfinite()


def test_unknown_matching_and_too_few_queries_are_refused():
    with pytest.raises(UserError, match=r"criterion\.matching must be one of bipartite, box, fixed, got 'greedy'"):
        MaskFormerCriterion(4, matching="greedy")
    model = build_model(tiny_config(num_classes=9))
    with pytest.raises(UserError, match=r"fixed needs a query for each of the 9 classes, got model\.num_queries=8"):
        build_criterion(model, CriterionConfig(matching="fixed"))


@pytest.mark.parametrize("matching", ["bipartite", "box", "fixed"])
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        *(({name: math.nan}, ValueError, f"{name} must be finite, got nan") for name in WEIGHTS),
        *(({name: "1"}, TypeError, f"{name} must be a number, got '1'") for name in WEIGHTS),
        ({"no_object_weight": -0.1}, ValueError, r"no_object_weight must not be negative, got -0\.1"),
        ({"alpha": 1.5}, ValueError, r"alpha must lie in \[0, 1\], or be negative for no weights, got 1\.5"),
        ({"gamma": -1}, ValueError, "gamma must not be negative, got -1"),
        ({"ignore_void": "no"}, TypeError, "ignore_void must be True or False, got 'no'"),
        ({"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
        ({"num_classes": 1.5}, TypeError, r"num_classes must be an integer, got 1\.5"),
    ],
    ids=str,
)
def test_options_that_would_spoil_the_total_are_named(matching, options, kind, message):
    with pytest.raises(kind, match=f"^MaskFormerCriterion: {message}$"):
        MaskFormerCriterion(**{"num_classes": 4, "matching": matching, **options})
