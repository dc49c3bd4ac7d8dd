"""`accelerate` beside the real OneFormer of transformers: losses, gradients, random numbers, decoder, outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from family_models import QUERIES
from family_models import make_oneformer as make_model
from transformers_steps import SIZE, assert_same_step, make_labels, run_step

from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.integrations.transformers_models.layers import AuxiliaryLogits
from maskformer_ext.integrations.transformers_models.masked_attention import as_blocked, is_attended
from maskformer_ext.integrations.transformers_models.parts import is_older_than
from maskformer_ext.ops import SegmentTargets

transformers = pytest.importorskip("transformers")


def make_inputs(queries: int = QUERIES) -> dict[str, Any]:
    """Return images, tasks and texts."""
    generator = torch.Generator().manual_seed(5)
    return {
        "pixels": torch.randn(3, 3, *SIZE, generator=generator),
        "task_inputs": torch.randint(50, (3, 7), generator=generator).float(),
        "text_inputs": torch.randint(50, (3, queries - 2, 7), generator=generator),
    }


@pytest.mark.parametrize("form", ["masks", "segment maps", "targets", "overlapping masks"])
def test_training_step_equals_transformers(form: str) -> None:
    model, inputs = make_model(no_object_weight=0.3, class_weight=1.5, contrastive_weight=0.7), make_inputs()
    maps, masks, labels = make_labels()
    if form == "overlapping masks":
        masks[2][1, :40] = 1
    theirs = run_step(model, masks, labels, **inputs)
    accelerate(model)
    given = {"segment maps": maps, "targets": SegmentTargets.from_masks(masks, labels)}.get(form, masks)
    assert_same_step(run_step(model, given, labels, **inputs), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"pre_norm": True},
        {"use_auxiliary_loss": False},
        {"is_training": False},
        {"use_task_norm": False},
        {"dropout": 0.2},
        {"queries": 5},
    ],
    ids=str,
)
def test_other_configurations(options: dict[str, Any]) -> None:
    if options == {"is_training": False} and is_older_than(5, 23):
        pytest.skip("transformers' own step fails without texts in this version")
    model, inputs = make_model(**options), make_inputs(options.get("queries", QUERIES))
    maps, masks, labels = make_labels()
    theirs = run_step(model, masks, labels, **inputs)
    assert_same_step(run_step(accelerate(model), maps, labels, **inputs), theirs)


def test_soft_masks_and_other_sizes_go_through_the_original() -> None:
    model, inputs = make_model(), make_inputs()
    _, masks, labels = make_labels()
    soft = [mask * 0.75 for mask in masks]
    uneven = [masks[0][:, :32, :64].contiguous(), masks[1], masks[2]]
    expected = [run_step(model, given, labels, **inputs) for given in (soft, uneven)]
    accelerate(model)
    for given, theirs in zip((soft, uneven), expected, strict=True):
        assert_same_step(run_step(model, given, labels, **inputs), theirs)


def _outputs(model, **arguments):
    inputs = make_inputs()
    with torch.no_grad():
        return model(inputs.pop("pixels"), **inputs, **arguments)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attentions", [False, True])
def test_outputs_equal_those_of_transformers(training: bool, attentions: bool) -> None:
    model = make_model().train(training)
    theirs = _outputs(model, output_hidden_states=True, output_attentions=attentions)
    ours = _outputs(accelerate(model), output_hidden_states=True, output_attentions=attentions)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        _assert_close(ours[name], value, name)
    assert isinstance(ours.auxiliary_predictions, AuxiliaryLogits)


def _assert_close(ours: Any, theirs: Any, name: str) -> None:
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, msg=lambda text: f"{name}: {text}")
    elif isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            _assert_close(ours[key], value, f"{name}.{key}")
    else:
        assert len(ours) == len(theirs)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _assert_close(one, other, f"{name}[{index}]")


def _decode(model) -> tuple[Any, list[torch.Tensor]]:
    """Decode random features in float64; return the output and the masks of the layers, True where blocked."""
    generator = torch.Generator().manual_seed(2)
    module = model.model.transformer_module.double()
    module.input_projections = [projection.double() for projection in module.input_projections]
    features = [torch.randn(2, 64, 64 // s, 96 // s, generator=generator).double() for s in (4, 32, 16, 8)]
    task = torch.randn(2, 64, generator=generator).double()
    masks: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda _module, _arguments, named, _result: masks.append(named["attention_mask"]), with_kwargs=True
        )
        for layer in module.decoder.layers
    ]
    with torch.no_grad():
        output = module(multi_scale_features=features[1:], mask_features=features[0], task_token=task)
    for hook in hooks:
        hook.remove()
    return output, [as_blocked(mask, 2) if is_attended(mask) else mask for mask in masks]


def test_decoder_in_float64_equals_transformers() -> None:
    model = make_model().eval()
    theirs, blocked = _decode(model)
    ours, ours_blocked = _decode(accelerate(model))
    for name in ("object_queries", "contrastive_logits", "prediction_class"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12)
    _assert_close(ours.auxiliary_predictions, theirs.auxiliary_predictions, "auxiliary")
    assert len(blocked) == len(ours_blocked) == 5
    for mask, our_mask in zip(blocked, ours_blocked, strict=True):
        assert torch.equal(mask, our_mask) and mask.any()


def test_compiled_decoder_equals_the_eager_one() -> None:
    model = accelerate(make_model(layers=3).eval())
    expected = _outputs(model)
    model.model.transformer_module.decoder.compile(backend="aot_eager", fullgraph=True)
    found = _outputs(model)
    _assert_close(found.masks_queries_logits, expected.masks_queries_logits, "masks")
    _assert_close(found.auxiliary_predictions, expected.auxiliary_predictions, "auxiliary")


def test_describe_and_restore() -> None:
    model, inputs = make_model(), make_inputs()
    _, masks, labels = make_labels()
    theirs = run_step(model, masks, labels, **inputs)
    accelerate(model)
    replaced = {found.name for found in describe(model) if not found.left}
    assert {"OneFormerLoss", "OneFormerHungarianMatcher", "OneFormerTransformerDecoder"} <= replaced
    assert_same_step(run_step(copy.deepcopy(model), masks, labels, **inputs), theirs)
    restore(model)
    assert all(found.left for found in describe(model))
    assert_same_step(run_step(model, masks, labels, **inputs), theirs)
