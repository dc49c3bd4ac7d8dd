"""`accelerate` beside the real transformers classes: losses, gradients, assignments."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from family_models import QUERIES, make_maskformer
from torch import Tensor
from transformers_steps import CLASSES

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.ops import SegmentTargets

transformers = pytest.importorskip("transformers")


def _model(*, auxiliary: bool = True, **options):
    return make_maskformer(use_auxiliary_loss=auxiliary, **options)


def _labels(counts=(3, 0, 6), size=(64, 96)) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Segment maps with void, the same as masks, and class labels."""
    generator = torch.Generator().manual_seed(3)
    blocks = [torch.randint(-1, max(n, 1), (8, 12), generator=generator) for n in counts]
    blocks = [block if n else torch.full_like(block, -1) for block, n in zip(blocks, counts, strict=True)]
    maps = torch.stack([torch.nn.functional.interpolate(b[None, None].float(), size)[0, 0].int() for b in blocks])
    masks = [(one == torch.arange(n).view(-1, 1, 1)).float() for one, n in zip(maps, counts, strict=True)]
    return maps, masks, [torch.randint(CLASSES, (n,), generator=generator) for n in counts]


def _step(model, mask_labels, class_labels, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], object]:
    """Losses, gradients and output of one training step."""
    losses: dict[str, Tensor] = {}
    hook = model.criterion.register_forward_hook(
        lambda _module, _arguments, result: losses.update(
            {key: value.detach().clone() for key, value in result.items()}
        )
    )
    model.zero_grad()
    output = model(pixels, mask_labels=mask_labels, class_labels=class_labels)
    output.loss.backward()
    hook.remove()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {**losses, "total": output.loss.detach()}, gradients, output


def _assert_same_step(ours, theirs) -> None:
    assert set(ours[0]) == set(theirs[0])
    for key, loss in theirs[0].items():
        torch.testing.assert_close(ours[0][key].squeeze(), loss.squeeze(), rtol=1e-5, atol=1e-6, msg=key)
    largest = max(gradient.abs().max() for gradient in theirs[1].values())
    for name, gradient in theirs[1].items():
        assert (ours[1].get(name, torch.zeros(())) - gradient).abs().max() <= 1e-4 * largest, name


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("form", ["masks", "boolean masks", "segment maps", "targets", "overlapping masks"])
def test_training_step_equals_transformers(auxiliary: bool, form: str) -> None:
    model = _model(auxiliary=auxiliary, cross_entropy_weight=1.5, mask_weight=7.0, no_object_weight=0.3)
    pixels = torch.randn(3, 3, 64, 96)
    maps, masks, labels = _labels()
    if form == "overlapping masks":
        masks[2][1, :40] = 1
    theirs = _step(model, masks, labels, pixels)
    accelerate(model)
    given = {
        "boolean masks": [mask.bool() for mask in masks],
        "segment maps": list(maps),
        "targets": SegmentTargets.from_masks(masks, labels),
    }.get(form, masks)
    _assert_same_step(_step(model, given, labels, pixels), theirs)


def test_soft_masks_and_other_sizes_go_through_the_original() -> None:
    model = _model()
    pixels = torch.randn(3, 3, 64, 96)
    _, masks, labels = _labels()
    soft = [mask * 0.75 for mask in masks]
    uneven = [masks[0][:, :32, :64].contiguous(), masks[1], masks[2]]
    expected = [_step(model, given, labels, pixels) for given in (soft, uneven)]
    accelerate(model)
    for given, theirs in zip((soft, uneven), expected, strict=True):
        _assert_same_step(_step(model, given, labels, pixels), theirs)


@pytest.mark.parametrize("form", ["masks", "segment maps", "targets"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_no_object_is_a_label_as_in_transformers(auxiliary: bool, form: str) -> None:
    model = _model(auxiliary=auxiliary, no_object_weight=0.3)
    pixels = torch.randn(3, 3, 64, 96)
    maps, masks, labels = _labels()
    labels[0][1] = labels[2][0] = labels[2][4] = CLASSES
    theirs = _step(model, masks, labels, pixels)
    accelerate(model)
    given = {"segment maps": list(maps), "targets": SegmentTargets.from_masks(masks, labels)}.get(form, masks)
    _assert_same_step(_step(model, given, labels, pixels), theirs)
    logits, classes = torch.randn(3, QUERIES, 16, 24), torch.randn(3, QUERIES, CLASSES + 1)
    ours, original = model.matcher(logits, classes, given, labels), restore(model).matcher
    for pairs in zip(ours, original(logits, classes, masks, labels), strict=True):
        assert [index.tolist() for index in pairs[0]] == [index.tolist() for index in pairs[1]]


@pytest.mark.parametrize("label", [-1, -100, CLASSES + 1])
def test_labels_that_transformers_refuses_are_refused(label: int) -> None:
    model = _model()
    pixels = torch.randn(3, 3, 64, 96)
    _, masks, labels = _labels()
    labels[2][3] = label
    for _ in range(2):
        with pytest.raises((IndexError, ValueError)):
            _step(model, masks, labels, pixels)
        accelerate(model)


def test_a_label_that_transformers_leaves_out_is_left_out() -> None:
    """Its matcher reads class -100 from the end, and its class loss ignores the query."""
    from transformers.models.maskformer import modeling_maskformer as original_code

    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    original = original_code.MaskFormerLoss(120, original_code.MaskFormerHungarianMatcher(1.0, 20.0, 1.0), weights, 0.1)
    arguments = (
        torch.randn(1, QUERIES, 8, 8),
        torch.randn(1, QUERIES, 121),
        [torch.randn(2, 16, 16).gt(0).float()],
        [torch.tensor([7, -100])],
    )
    expected = original(*arguments)
    for key, loss in accelerate(original)(*arguments).items():
        torch.testing.assert_close(loss, expected[key], rtol=1e-5, atol=1e-6)


def test_class_labels_are_integers() -> None:
    model = accelerate(_model())
    _, masks, labels = _labels()
    labels[0] = labels[0] + 0.5
    with pytest.raises(TypeError, match=r"class_labels: labels\[0\] must have an integer dtype, got torch.float32"):
        _step(model, masks, labels, torch.randn(3, 3, 64, 96))


def test_ids_of_a_segment_map_that_int32_would_wrap_are_refused() -> None:
    model = accelerate(_model())
    maps, _, labels = _labels()
    wild = [one.long() for one in maps]
    wild[0][0, 0] = 2**32  # 0 in int32
    with pytest.raises(ValueError, match=r"mask_labels\[0\] must hold ids that fit into int32"):
        _step(model, wild, labels, torch.randn(3, 3, 64, 96))


def test_class_weights_and_matching_costs_that_were_changed_later_count() -> None:
    model = _model()
    pixels = torch.randn(3, 3, 64, 96)
    _, masks, labels = _labels()

    def change() -> None:
        model.criterion.empty_weight[1] = 4.0
        model.matcher.cost_mask = 0.5

    change()
    theirs = _step(model, masks, labels, pixels)
    restored = restore(accelerate(model))
    assert restored is model
    accelerate(model)
    change()
    _assert_same_step(_step(model, masks, labels, pixels), theirs)


def test_matcher_and_criterion_alone_equal_the_originals() -> None:
    model = _model()
    original = model.criterion
    accelerate(model)
    _, masks, labels = _labels(counts=(3, 0, 14))  # more segments than queries
    logits, classes = torch.randn(3, QUERIES, 16, 24), torch.randn(3, QUERIES, CLASSES + 1)
    ours = model.matcher(logits, classes, masks, labels)
    theirs = original.matcher(logits, classes, masks, labels)
    for pairs in zip(ours, theirs, strict=True):
        for mine, other in zip(*pairs, strict=True):
            assert mine.dtype == other.dtype and mine.tolist() == other.tolist()
    inner = [{"masks_queries_logits": torch.randn_like(logits), "class_queries_logits": torch.randn_like(classes)}]
    expected = original(logits, classes, masks, labels, inner)
    for key, loss in model.criterion(logits, classes, masks, labels, inner).items():
        torch.testing.assert_close(loss, expected[key], rtol=1e-5, atol=1e-6)


def test_inner_layers_are_formed_when_asked_for() -> None:
    model = _model()
    pixels = torch.randn(1, 3, 64, 96)
    theirs = model(pixels, output_auxiliary_logits=True)
    ours = accelerate(model)(pixels, output_auxiliary_logits=True)
    torch.testing.assert_close(ours.masks_queries_logits, theirs.masks_queries_logits)
    assert len(ours.auxiliary_logits) == len(theirs.auxiliary_logits) == 3
    for mine, other in zip(ours.auxiliary_logits, theirs.auxiliary_logits, strict=True):
        for key, value in other.items():
            torch.testing.assert_close(mine[key], value)
    assert len(ours.auxiliary_logits[1:]) == 2
    assert model(pixels).auxiliary_logits is None


def test_restore_puts_everything_back_and_copies_stay_independent(tmp_path) -> None:
    model, processor = _model(), transformers.MaskFormerImageProcessor()
    classes = [type(module) for module in model.modules()]
    saved, keys = processor.to_json_string(), list(model.state_dict())
    accelerate(model, processor)
    accelerate(model, processor)  # a second call changes nothing
    assert list(model.state_dict()) == keys and processor.to_json_string() == saved
    assert all(isinstance(module, known) for module, known in zip(model.modules(), classes, strict=True))
    torch.save(model, tmp_path / "model.pt")
    for twin in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert [str(part) for part in describe(twin)] == [str(part) for part in describe(model)]
        restore(twin)
        assert [type(module) for module in twin.modules()] == classes
    assert not any(part.left for part in describe(model, processor))
    restore(model, processor)
    assert [type(module) for module in model.modules()] == classes
    assert type(processor) is transformers.MaskFormerImageProcessor
    assert all(part.left == "accelerate was not called" for part in describe(model, processor))
    restore(model, processor)


def test_one_line_says_what_was_replaced(capsys) -> None:
    model = accelerate(_model())
    assert capsys.readouterr().err == (
        "accelerate replaced MaskFormerForInstanceSegmentation, MaskFormerHungarianMatcher, MaskFormerLoss\n"
    )
    accelerate(restore(model), verbose=False)
    assert capsys.readouterr().err == ""
    assert "criterion (MaskFormerLoss): all layers and images in one call" in "\n".join(map(str, describe(model)))


def test_a_class_that_looks_different_is_left_with_a_sentence(capsys) -> None:
    known: Any = type(_model().criterion.matcher)

    class Overridden(known):
        def forward(self, *arguments):
            return super().forward(*arguments)

    later = type("MaskFormerLoss", (torch.nn.Module,), {"forward": lambda self, masks, labels: masks})
    later.__module__ = "transformers.models.maskformer.modeling_maskformer"
    model = _model()
    model.criterion.matcher.__class__ = Overridden
    model.later = later()
    accelerate(model)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "accelerate replaced MaskFormerForInstanceSegmentation, MaskFormerLoss"
    assert "Overridden has a forward of its own" in said[1]
    assert "later (MaskFormerLoss): left as it is, since its forward(masks, labels) has other parameters" in said[2]
    assert type(model.criterion.matcher) is Overridden and type(model.later) is later
    assert sum(bool(part.left) for part in describe(model)) == 2


def test_other_objects_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="such as MaskFormerForInstanceSegmentation, got Linear"):
        accelerate(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="such as MaskFormerImageProcessor, got dict"):
        accelerate(None, {})
    model = accelerate(_model())
    model.config.output_hidden_states = False
    with pytest.raises(UserError, match="output_hidden_states=True"):
        model(torch.randn(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"mask_labels\[0\] must be \(T, H, W\) with T = 2"):
        model.criterion(
            torch.randn(1, 4, 8, 8), torch.randn(1, 4, CLASSES + 1), [torch.zeros(3, 8, 8)], [torch.zeros(2).long()]
        )
