"""Every class of the installed transformers that samples several levels, before and after `accelerate`.

The classes are found by reading transformers' sources, so a new copy in a later version is noticed here.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import pickle
import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from no_waiting import on_a_stand_in
from torch import Tensor, nn

from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.integrations.transformers_models.parts import is_swapped

transformers = pytest.importorskip("transformers")

CORE = "MultiScaleDeformableAttention"
SHAPES = [(6, 5), (3, 4), (2, 1)]
CELLS = sum(h * w for h, w in SHAPES)
HEADS, CHANNELS, POINTS, QUERIES, IMAGES = 4, 32, 2, 7, 2
RAGGED = re.compile("RTDetrV2|DFine|Deimv2")


def _classes() -> list[tuple[str, str]]:
    """Return (module, class) of what samples by itself; modules that hold a core of their own are left out."""
    found = []
    for path in sorted(Path(transformers.__file__).parent.glob("models/*/modeling_*.py")):
        text = path.read_text()
        if "spatial_shapes" not in text or "grid_sample(" not in text:
            continue
        for node in ast.parse(text).body:
            if not isinstance(node, ast.ClassDef):
                continue
            body = ast.unparse(node)
            samples = "grid_sample(" in body or re.search(r"= \w*multi_?scale_deformable_?attention\w*\b(?!\.)", body)
            if samples and "spatial_shapes" in body and f"{CORE}()" not in body:
                found.append((f"transformers.models.{path.parent.name}.{path.stem}", node.name))
    return found


FOUND = _classes()
CASES = [
    (module, name, method)
    for module, name in FOUND
    for method in (("default", "discrete") if RAGGED.match(name) else ("default",))
]


def _make(module: str, name: str, method: str = "default") -> Any:
    known = getattr(importlib.import_module(module), name)
    torch.manual_seed(3)
    if name == CORE:
        return known()
    if not RAGGED.match(name):
        layer = known(embed_dim=CHANNELS, num_heads=HEADS, n_levels=len(SHAPES), n_points=POINTS)
    else:
        config = types.SimpleNamespace(
            d_model=CHANNELS,
            decoder_attention_heads=HEADS,
            decoder_n_levels=len(SHAPES),
            num_feature_levels=len(SHAPES),
            decoder_n_points=POINTS if name.startswith("RTDetrV2") else [3, 1, 2],
            decoder_offset_scale=0.5,
            decoder_method=method,
        )
        layer = known(config)
    for parameter in layer.parameters():  # some start at zero, where all places are alike
        nn.init.normal_(parameter, std=0.3)
    return layer


def _draw(*sizes: int, dtype: torch.dtype, gradient: bool = True) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64).to(dtype).requires_grad_(gradient)


def _inputs(
    layer: nn.Module, dtype: torch.dtype = torch.float32, *, numbers: int = 2, mask: bool = True
) -> dict[str, Any]:
    """Draw the arguments of a layer's forward, by name."""
    torch.manual_seed(5)
    name = type(layer).__name__
    levels, points = len(SHAPES), POINTS
    sizes = {
        "spatial_shapes": torch.tensor(SHAPES),
        "spatial_shapes_list": SHAPES,
        "level_start_index": torch.tensor([0, 30, 42]),
    }
    if name == CORE:
        places = torch.rand(IMAGES, QUERIES, HEADS, levels, points, 2, dtype=torch.float64) * 1.4 - 0.2
        return {
            "value": _draw(IMAGES, CELLS, HEADS, CHANNELS // HEADS, dtype=dtype),
            "value_spatial_shapes": sizes["spatial_shapes"],
            "value_spatial_shapes_list": SHAPES,
            "level_start_index": sizes["level_start_index"],
            "sampling_locations": places.to(dtype).requires_grad_(),
            "attention_weights": _draw(IMAGES, QUERIES, HEADS, levels, points, dtype=dtype),
            "im2col_step": 64,
        }
    ragged = RAGGED.match(name)
    boxes = torch.rand(IMAGES, QUERIES, 1 if ragged else levels, 4 if ragged else numbers, dtype=torch.float64)
    given = {
        "hidden_states": _draw(IMAGES, QUERIES, CHANNELS, dtype=dtype),
        "encoder_hidden_states": _draw(IMAGES, CELLS, CHANNELS, dtype=dtype),
        "position_embeddings": _draw(IMAGES, QUERIES, CHANNELS, dtype=dtype),
        "reference_points": boxes.to(dtype).requires_grad_(),
        "attention_mask": torch.rand(IMAGES, CELLS) < 0.5 if mask else None,
        **sizes,
    }
    if name.startswith(("DFine", "Deimv2")):  # a mask does not fit to the shape of its values
        given["attention_mask"] = None
    accepted = inspect.signature(layer.forward).parameters
    return {key: value for key, value in given.items() if key in accepted}


def _run(layer: nn.Module, given: dict[str, Any]) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Return all outputs, and all gradients by name."""
    outputs = layer(**given)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    torch.manual_seed(7)
    inputs = {key: value for key, value in given.items() if isinstance(value, Tensor) and value.requires_grad}
    inputs |= dict(layer.named_parameters())
    loss = sum((output.double() * torch.randn(output.shape, dtype=torch.float64)).sum() for output in outputs)
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    return outputs, dict(zip(inputs, gradients, strict=True))


def _assert_equal(ours: Any, theirs: Any, tolerance: float) -> None:
    for output, expected in zip(ours[0], theirs[0], strict=True):
        assert output.dtype == expected.dtype and output.shape == expected.shape
        torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    assert list(ours[1]) == list(theirs[1])
    for name, expected in theirs[1].items():
        gradient = ours[1][name]
        assert (gradient is None) == (expected is None), name
        if expected is not None:
            bound = tolerance * max(1.0, float(expected.abs().max()))
            assert gradient.dtype == expected.dtype
            assert float((gradient - expected).abs().max()) <= bound, name


def _label(case: tuple[str, ...]) -> str:
    return f"{case[0].split('.')[2]}-{'-'.join(case[1:])}"


def test_the_scan_finds_classes() -> None:
    names = {name for _, name in FOUND}
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    assert "Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention" in names
    assert "OneFormerPixelDecoderEncoderMultiscaleDeformableAttention" in names
    if version >= (5, 24):
        assert len(FOUND) >= 15 and CORE in names


@pytest.mark.parametrize("case", FOUND, ids=_label)
def test_each_class_is_known(case: tuple[str, str]) -> None:
    if not _is_of_today(case[1]):
        pytest.skip("its form before 4.50, where the sampling and the projections are one class")
    model = nn.Sequential(_make(*case))
    accelerate(model, verbose=False)
    assert [found.left for found in describe(model)] == [""]


def _is_of_today(name: str) -> bool:
    """Return whether a class is one that is replaced: its own form before 4.50 is not."""
    return name == CORE or bool(RAGGED.match(name)) or "PixelDecoder" in name


KNOWN = [case for case in CASES if _is_of_today(case[1])]


@pytest.mark.parametrize("numbers", [2, 4])
@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_outputs_and_gradients_equal_transformers(case: tuple[str, str, str], numbers: int) -> None:
    layer = _make(*case)
    given = _inputs(layer, numbers=numbers)
    theirs = _run(layer, given)
    accelerate(layer, verbose=False)
    _assert_equal(_run(layer, given), theirs, 2e-5)


@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_float32_is_near_float64(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    exact = _run(layer.double(), _inputs(layer, torch.float64))
    accelerate(layer.float(), verbose=False)
    ours = _run(layer, _inputs(layer))
    for output, expected in zip(ours[0], exact[0], strict=True):
        assert _error(output, expected) <= 1e-6
    for name, gradient in exact[1].items():
        if gradient is not None:
            assert _error(ours[1][name], gradient) <= 3e-6, name


@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_autocast_gives_the_same_dtypes(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    given = _inputs(layer)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = _run(layer, given)
        accelerate(layer, verbose=False)
        ours = _run(layer, given)
    _assert_equal(ours, theirs, 0.1)


@pytest.mark.parametrize("case", [case for case in KNOWN if case[2] == "default"], ids=_label)
def test_bfloat16_gives_the_same_dtypes(case: tuple[str, str, str]) -> None:
    layer = _make(*case).bfloat16()
    given = _inputs(layer, torch.bfloat16)
    theirs = _run(layer, given)
    accelerate(layer, verbose=False)
    ours = _run(layer, given)
    for output, expected in zip(ours[0], theirs[0], strict=True):
        assert output.dtype == expected.dtype and output.shape == expected.shape
    exact = _run(layer.double(), {key: _widened(value) for key, value in given.items()})
    for output, expected in zip(ours[0], exact[0], strict=True):
        assert _error(output, expected) <= 0.05


def _error(result: Any, expected: Tensor) -> float:
    return float((result.detach() - expected.detach()).abs().max() / expected.detach().abs().max())


def _widened(value: Any) -> Any:
    is_floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.detach().double().requires_grad_() if is_floating else value


@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_restored_copied_and_pickled(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    original, given = type(layer), _inputs(layer)
    state = layer.state_dict()
    accelerate(layer, verbose=False)
    assert list(layer.state_dict()) == list(state) and isinstance(layer, original)
    expected = _run(layer, given)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert is_swapped(other)
        _assert_equal(_run(other, given), expected, 0)
    assert type(restore(layer)) is original


@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_sizes_that_do_not_fit_are_refused(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    accelerate(layer, verbose=False)
    given = _inputs(layer)
    for key, value in given.items():
        if "spatial_shapes" in key:
            given[key] = value[:2]
    with pytest.raises((ValueError, RuntimeError)):
        layer(**given)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "case", [case for case in KNOWN if "deformable_detr" in case[0] or case[1] != CORE], ids=_label
)
def test_compiles_without_breaks(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    given = _inputs(layer)
    if "spatial_shapes" in given and "spatial_shapes_list" not in given:
        pytest.skip("a version that hands over the sizes as a tensor")
    accelerate(layer, verbose=False)
    expected = _run(layer, given)
    torch._dynamo.reset()
    layer.compile(fullgraph=True, backend="aot_eager")
    _assert_equal(_run(layer, given), expected, 1e-5)


@pytest.mark.parametrize("case", KNOWN, ids=_label)
def test_nothing_waits_for_a_gpu(case: tuple[str, str, str]) -> None:
    layer = _make(*case)
    given = _inputs(layer)
    if "spatial_shapes" in given and "spatial_shapes_list" not in given:
        pytest.skip("a version that hands over the sizes as a tensor")
    accelerate(layer.to("meta"), verbose=False)
    on_device = {key: value.to("meta") if isinstance(value, Tensor) else value for key, value in given.items()}
    wanted = [value for value in on_device.values() if isinstance(value, Tensor) and value.requires_grad]
    with on_a_stand_in() as watch:
        result = layer(**on_device)
        output = result[0] if isinstance(result, tuple) else result
        torch.autograd.grad(output, wanted, torch.ones_like(output), allow_unused=True)
    assert watch.seen >= {"ms_deform_attn", "ms_deform_attn_backward"}


@pytest.mark.parametrize("new", [True, False])
def test_a_whole_model_has_the_same_loss_and_gradients(new: bool) -> None:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"]
    )
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_feature_levels=4,
        num_queries=8,
        num_labels=5,
        dropout=0.0,
        activation_dropout=0.0,
    )
    torch.manual_seed(1)
    model = transformers.DeformableDetrForObjectDetection(config).eval()
    for name, parameter in model.named_parameters():
        if (
            "sampling_offsets" in name and not new
        ):  # those of a new model lie on centres of cells, kinks of the gradient
            nn.init.normal_(parameter, std=0.5)
    pixels, mask = torch.randn(2, 3, 64, 96), torch.ones(2, 64, 96, dtype=torch.long)
    mask[1, :, 70:] = 0
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.3, 0.6, 0.4, 0.2]])
    labels = [{"class_labels": torch.tensor([1, 3]), "boxes": boxes} for _ in range(2)]

    def step() -> dict[str, Tensor]:
        model.zero_grad()
        output = model(pixels, pixel_mask=mask, labels=labels, output_attentions=True)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        attentions = {str(layer): maps.detach() for layer, maps in enumerate(output.encoder_attentions)}
        return {"loss": output.loss.detach(), "boxes": output.pred_boxes.detach(), **attentions, **gradients}

    theirs = step()
    if not [found for found in describe(model) if found.by == "ms_deform_attn"]:
        return  # a version before 4.50
    accelerate(model, verbose=False)
    assert [found.by for found in describe(model)].count("ms_deform_attn") == 4
    assert not any(found.left for found in describe(model))
    ours = step()
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        bound = 1e-5 + 1e-4 * float(expected.abs().max())
        assert float((ours[name] - expected).abs().max()) <= bound, name


def test_a_forward_that_an_instance_was_given_is_left() -> None:
    """As kernels of the hub come, and the hooks of the package accelerate."""
    module, name = next(case for case in FOUND if _is_of_today(case[1]))
    model = nn.Sequential(_make(module, name), _make(module, name))
    given = _inputs(model[0])
    model[0].forward = lambda **arguments: "kernel"
    accelerate(model, verbose=False)
    assert not is_swapped(model[0]) and is_swapped(model[1])
    assert "a forward of its own" in describe(model)[0].left and describe(model)[1].left == ""
    model[1].forward = lambda **arguments: "kernel"
    assert model[1](**given) == "kernel"
    assert "a forward of its own" in describe(model)[1].left
    restore(model)
    assert not is_swapped(model[1]) and model[1](**given) == "kernel"
