"""Reading weights: files that cannot be trusted, names of the original, pre-trained backbones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch import Tensor, nn

from maskformer_ext.checkpoints import load_original, original_name
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.errors import UserError


def _model(**overrides) -> nn.Module:
    return build_model(tiny_config(3, encoder_layers=1), **overrides)


def _original_state(model: nn.Module) -> dict[str, Tensor]:
    return {original_name(name): torch.randn_like(value) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "overrides",
    [
        {"backbone": "swin_tiny"},
        {"backbone": "resnet50", "pixel_decoder": "transformer_encoder"},
        {"backbone": "resnet50", "architecture": "per_pixel_baseline"},
    ],
)
def test_original_weights_arrive_where_they_belong(overrides: dict) -> None:
    model = _model(**overrides)
    state = _original_state(model)
    derived = {"criterion.empty_weight": torch.ones(4)}
    derived["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    load_original(model, state | derived)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[original_name(name)])


def test_names_of_the_first_version_are_understood() -> None:
    model = _model(backbone="resnet50")
    state = _original_state(model)
    old = {name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): value for name, value in state.items()}
    assert set(old) != set(state)
    load_original(model, old)
    bias = model.get_parameter("pixel_decoder.mask_features.bias")
    assert torch.equal(bias, state["sem_seg_head.pixel_decoder.mask_features.bias"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("backbone.res3.1.conv2.weight"), r"backbone\.res3\.1\.conv2\.weight is missing"),
        (lambda state: state.update({"backbone.extra": torch.zeros(1)}), r"backbone\.extra has no place"),
        (
            lambda state: state.update({"sem_seg_head.predictor.class_embed.bias": torch.zeros(7)}),
            r"class_embed\.bias must be \(4,\), got \(7,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(spoil, message: str) -> None:
    model = _model(backbone="resnet50")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = _original_state(model)
    spoil(state)
    with pytest.raises(UserError, match=message):
        load_original(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_files_are_read(tmp_path: Path, suffix: str, wrapped: bool) -> None:
    state = {"a": torch.randn(3), "b.c": torch.arange(4)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"model": state, "epoch": 3} if wrapped else state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    loaded = read_state_dict(path)
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


class _Evil:
    def __reduce__(self):
        return (print, ("code in a checkpoint ran",))


def test_a_file_with_code_is_refused_and_does_not_run(tmp_path: Path, capsys) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"a": _Evil()}, path)
    with pytest.raises(UserError, match=r"evil\.pth holds .*print, which is neither a tensor"):
        read_state_dict(path)
    path.write_bytes(pickle.dumps(_Evil(), protocol=2))
    with pytest.raises(UserError, match=r"evil\.pth"):
        read_state_dict(path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_and_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(UserError, match="does not exist"):
        read_state_dict(path)
    if suffix == ".pth":
        torch.save({"a": torch.randn(1000)}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file({"a": torch.randn(1000)}, path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"weights\.\w+ cannot be read"):
        read_state_dict(path)


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"iteration": 3}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="must hold a state dict"):
        read_state_dict(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [None, [1], {1: torch.ones(1)}])
def test_load_original_takes_a_mapping_of_names(content) -> None:
    with pytest.raises(TypeError, match="load_original: state_dict must map names to tensors, got"):
        load_original(torch.nn.Linear(1, 1), content)
