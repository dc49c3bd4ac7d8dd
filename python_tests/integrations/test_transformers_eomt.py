"""`accelerate` beside the real EoMT of transformers: losses, gradients, random numbers, masks, outputs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.ops import SegmentTargets
from python_tests.integrations.eomt_steps import (
    KINDS,
    QUERIES,
    SIZE,
    assert_same,
    make_labels,
    make_model,
    make_pixels,
    run_step,
)

both = pytest.mark.parametrize("kind", KINDS)


@both
@pytest.mark.parametrize("form", ["masks", "boolean masks", "segment maps", "targets", "overlapping masks"])
def test_training_step_equals_transformers(kind: str, form: str) -> None:
    model = make_model(kind, no_object_weight=0.3, class_weight=1.5, mask_weight=4.0)
    maps, masks, labels = make_labels()
    if form == "overlapping masks":
        masks[2][1, :40] = 1
    theirs = run_step(model, masks, labels)
    given: Any = {
        "boolean masks": [mask.bool() for mask in masks],
        "segment maps": maps,
        "targets": SegmentTargets.from_masks(masks, labels),
    }.get(form, masks)
    assert_same(run_step(accelerate(model), given, labels), theirs)


@both
@pytest.mark.parametrize("shares", [(1.0, 0.5), (0.3, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("training", [True, False])
def test_annealed_masks_and_their_random_numbers_equal_transformers(kind: str, shares, training: bool) -> None:
    """In evaluation a block without masks of its own goes on with those of the block before."""
    model = make_model(kind, shares=shares).train(training)
    _, masks, labels = make_labels((4, 2))
    theirs = run_step(model, masks, labels, output_hidden_states=True)
    ours = run_step(accelerate(model), masks, labels, output_hidden_states=True)
    assert_same(ours, theirs)
    assert len(ours.losses) == 1 + (2 if training else sum(share > 0 for share in shares))
    for mine, other in zip(ours.output.hidden_states, theirs.output.hidden_states, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    for name in ("masks_queries_logits", "class_queries_logits", "last_hidden_state"):
        torch.testing.assert_close(ours.output[name], theirs.output[name], rtol=1e-4, atol=1e-5)


@both
@pytest.mark.parametrize("counts", [(QUERIES + 3, 2), (0, 1)])
def test_more_segments_than_queries_and_none_equal_transformers(kind: str, counts: tuple[int, ...]) -> None:
    model = make_model(kind)
    maps, masks, labels = make_labels(counts)
    theirs = run_step(model, masks, labels)
    assert_same(run_step(accelerate(model), maps, labels), theirs)


def test_a_batch_without_segments_has_a_class_loss_only() -> None:
    model = accelerate(make_model())
    maps, _, labels = make_labels((0, 0))
    step = run_step(model, maps, labels)
    for losses in step.losses:
        assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0 and losses["loss_cross_entropy"] > 0
    assert all(gradient.isfinite().all() for gradient in step.gradients.values())


@both
@pytest.mark.parametrize("unusual", ["soft masks", "sizes that differ"])
def test_what_targets_cannot_express_goes_through_transformers(kind: str, unusual: str) -> None:
    model = make_model(kind)
    _, masks, labels = make_labels((3, 4))
    masks[1] = masks[1] * 0.5 if unusual == "soft masks" else masks[1][:, :48, :56]
    theirs = run_step(model, masks, labels)
    assert_same(run_step(accelerate(model), masks, labels), theirs)


@both
@pytest.mark.parametrize("options", [{"attn_implementation": "eager"}, {"attention_dropout": 0.3}])
def test_other_attention_and_dropout_equal_transformers(kind: str, options: dict[str, Any]) -> None:
    model = make_model(kind, **options, shares=(1.0, 0.5), drop_path_rate=0.2)
    _, masks, labels = make_labels((4, 2))
    eager = "attn_implementation" in options
    theirs = run_step(model, masks, labels, output_attentions=eager)
    ours = run_step(accelerate(model), masks, labels, output_attentions=eager)
    assert_same(ours, theirs, tolerance=2e-6)
    if eager:
        assert len(ours.output.attentions) == model.config.num_hidden_layers
        for mine, other in zip(ours.output.attentions, theirs.output.attentions, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@both
def test_attention_that_was_left_gets_the_mask_it_knows(kind: str) -> None:
    model = make_model(kind)
    _, masks, labels = make_labels((4, 2))
    theirs = run_step(model, masks, labels)
    accelerate(model)
    restore(model.layers)
    assert_same(run_step(model, masks, labels), theirs)
    restore(model.criterion)
    assert_same(run_step(model, masks, labels), theirs)


class _Shapes(TorchDispatchMode):
    """Note the shape of every result."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.shapes += [tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result


@both
def test_training_forms_neither_mask_logits_of_inner_layers_nor_masks_of_all_tokens(kind: str) -> None:
    model = accelerate(make_model(kind))
    maps, _, labels = make_labels((4, 2))
    with _Shapes() as seen:
        run_step(model, maps, labels)
    grid = SIZE[0] // 16
    tokens = QUERIES + 3 + grid * grid
    dense = [shape for shape in seen.shapes if shape[:2] == (2, QUERIES) and shape[-2:] == (4 * grid, 4 * grid)]
    assert len(dense) == 1, "the last layer's mask logits are part of the result, and no others"
    assert not [shape for shape in seen.shapes if shape[-2:] == (tokens, tokens)]


@both
@pytest.mark.parametrize("training", [True, False])
def test_without_labels_outputs_equal_transformers(kind: str, training: bool) -> None:
    model = make_model(kind, shares=(1.0, 0.5)).train(training)
    offsets = [torch.tensor([0, 0, 64])]

    def run() -> tuple[Any, Any]:
        torch.manual_seed(7)
        output = model(pixel_values=make_pixels(), patch_offsets=offsets)
        wanted = [model.query.weight, model.layers[0].norm1.weight, model.class_predictor.weight]
        total = output.masks_queries_logits.square().mean() + output.class_queries_logits.square().mean()
        return output, torch.autograd.grad(total, wanted)

    theirs, gradients = run()
    accelerate(model)
    ours, own_gradients = run()
    assert ours.loss is None and ours.patch_offsets is offsets and ours.keys() == theirs.keys()
    torch.testing.assert_close(ours.masks_queries_logits, theirs.masks_queries_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.class_queries_logits, theirs.class_queries_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own_gradients, gradients, rtol=1e-4, atol=1e-6)
    tuple_of = model(pixel_values=make_pixels(), return_dict=False)
    assert isinstance(tuple_of, tuple)


@both
def test_autocast_trains_near_to_transformers(kind: str) -> None:
    model = make_model(kind)
    _, masks, labels = make_labels((4, 2))
    with torch.autocast("cpu", torch.bfloat16):
        theirs = run_step(model, masks, labels)
        ours = run_step(accelerate(model), masks, labels)
    torch.testing.assert_close(ours.output.loss.float(), theirs.output.loss.float(), rtol=3e-2, atol=0)
    assert torch.equal(ours.state, theirs.state)


def test_model_in_bfloat16_trains() -> None:
    """transformers' own raises here, since its float32 mask does not fit 16-bit queries."""
    model = accelerate(make_model().bfloat16())
    maps, _, labels = make_labels((4, 2))
    step = run_step(model, maps, labels, make_pixels(2).bfloat16())
    assert step.output.loss.isfinite() and all(gradient.isfinite().all() for gradient in step.gradients.values())


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frozen", ["nothing", "conv1.weight", "conv2.weight", "x"])
def test_upscale_layer_equals_transformers(kind: str, dtype: torch.dtype, frozen: str) -> None:
    layer = make_model(kind).upscale_block.block[0].to(dtype)
    tokens = torch.randn(2, 3 + 5 * 4, 32, dtype=dtype, requires_grad=frozen != "x")
    for name, weight in layer.named_parameters():
        weight.requires_grad_(name != frozen)
    wanted = [tensor for tensor in (tokens, *layer.parameters()) if tensor.requires_grad]
    weight = torch.randn(2, 32, 10, 8, dtype=dtype)

    def run() -> tuple[torch.Tensor, ...]:
        out = layer(tokens[:, 3:].transpose(1, 2).unflatten(2, (5, 4)))
        return out, *torch.autograd.grad((out * weight).sum(), wanted)

    theirs = run()
    accelerate(layer)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for ours, other in zip(run(), theirs, strict=True):
        assert (ours - other).abs().max() <= tolerance * other.abs().max()


def test_upscale_layer_heeds_hooks_and_has_no_second_derivative() -> None:
    layer = accelerate(make_model().upscale_block.block[0])
    x = torch.randn(1, 32, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    called = []
    layer.conv2.register_forward_hook(lambda *_: called.append(True))
    layer(x)
    assert called


@both
def test_copies_and_restored_models_train_as_before(kind: str) -> None:
    model = make_model(kind)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    _, masks, labels = make_labels((4, 2))
    theirs = run_step(model, masks, labels)
    original = type(model)
    accelerate(model)
    assert [entry.left for entry in describe(model)] == [""] * len(describe(model))
    assert len(describe(model)) == 3 + model.config.num_hidden_layers + model.config.num_upscale_blocks
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(run_step(other, masks, labels), theirs)
    assert model.state_dict().keys() == weights.keys()
    restore(model)
    assert type(model) is original
    assert_same(run_step(model, masks, labels), theirs)


@both
@pytest.mark.timeout(0)
def test_compiled_model_predicts_the_same(kind: str) -> None:
    model = accelerate(make_model(kind, shares=(1.0, 0.0)).eval())
    with torch.no_grad():
        expected = model(pixel_values=make_pixels())
        compiled = torch.compile(model, backend="eager")(pixel_values=make_pixels())
    torch.testing.assert_close(compiled.masks_queries_logits, expected.masks_queries_logits)
    torch.testing.assert_close(compiled.class_queries_logits, expected.class_queries_logits)
