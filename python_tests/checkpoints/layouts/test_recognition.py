"""Networks are found below any key, and under any prefix that wrappers put before their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_files import SMALL, assert_same_weights, original_weights
from torch import Tensor, nn
from typed import expect

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints import load_original
from maskformer_ext.checkpoints.backbone_weights import build_pretrained_backbone, read_backbone_weights
from maskformer_ext.checkpoints.layouts.recognition import bare_names, find_state, layout_of, names_of
from maskformer_ext.checkpoints.layouts.transformers_names import to_transformers_names
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.errors import UserError

PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model.model.", "anything.at.all."]


@pytest.fixture(scope="module")
def model() -> MaskFormer:
    torch.manual_seed(2)
    return build_model(SMALL).eval()


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def _layouts(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    theirs = original_weights(model)
    first = {name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): value for name, value in theirs.items()}
    return {
        "native": dict(model.state_dict()),
        "original": theirs,
        "first version": first,
        "transformers": to_transformers_names(theirs),
    }


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
@pytest.mark.parametrize("layout", ["native", "original", "first version", "transformers"])
def test_a_prefix_before_all_names_is_taken_off(model, tmp_path: Path, layout: str, prefix: str) -> None:
    torch.save(_under(prefix, _layouts(model)[layout]), tmp_path / "weights.pth")
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "weights.pth"), model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_load_original_takes_the_same_names(model, prefix: str) -> None:
    for layout in ("native", "original", "first version"):
        other = build_model(SMALL)
        load_original(other, _under(prefix, _layouts(model)[layout]))
        assert_same_weights(other, model)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"model": w, "epoch": 3},
        lambda w: {"state_dict": _under("model.", w), "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
        lambda w: {"model_state_dict": w, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        lambda w: {"ema": {"module": _under("module.", w)}, "updates": 5},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"params": w},
        lambda w: {"checkpoint": {"network": w}},
        lambda w: {**_under("module.", w), "n_averaged": torch.tensor(5)},
        lambda w: {**_under("model.", w), "loss.weight": torch.ones(4), "val_iou.confmat": torch.zeros(3, 3)},
        lambda w: {**w, "iteration": 7},
        lambda w: {
            "ema": {name: value + 1 for name, value in w.items()},
            "model": w,
        },  # the weights before their average
        lambda w: {"model": w, "teacher": _under("x.", w)},
        lambda w: {name.replace("backbone.", "backbone._orig_mod."): value for name, value in w.items()},
        lambda w: {
            name.replace("backbone.res3.", "backbone.res3._checkpoint_wrapped_module."): v for name, v in w.items()
        },
    ],
)
@pytest.mark.parametrize("layout", ["native", "original"])
def test_what_training_programs_put_around_weights_is_seen_through(model, tmp_path: Path, wrap, layout: str) -> None:
    torch.save(wrap(_layouts(model)[layout]), tmp_path / "weights.pt")
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "weights.pt"), model)


def test_moving_averages_of_torch_are_read(model, tmp_path: Path) -> None:
    average = torch.optim.swa_utils.AveragedModel(model)
    torch.save(average.state_dict(), tmp_path / "average.pth")
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "average.pth"), model)


def test_a_compiled_model_is_read(model, tmp_path: Path) -> None:
    torch.save(expect(nn.Module, torch.compile(model)).state_dict(), tmp_path / "compiled.bin")
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "compiled.bin"), model)


def test_safetensors_without_a_header_are_read(model, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(_under("module.", dict(model.state_dict())), tmp_path / "weights.safetensors")
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "weights.safetensors"), model)


def test_two_networks_in_a_file_are_named(model, tmp_path: Path) -> None:
    weights = _layouts(model)["original"]
    torch.save({**_under("student.", weights), **_under("teacher.", weights)}, tmp_path / "both.pth")
    with pytest.raises(UserError, match=r"both\.pth: there are several networks, below 'student\.' and 'teacher\.'"):
        MaskFormer.from_pretrained(tmp_path / "both.pth")
    twice = {"backbone.a.sem_seg_head.b": torch.ones(1), "_orig_mod.backbone.a.sem_seg_head.b": torch.ones(1)}
    with pytest.raises(UserError, match="is there twice, once in a wrapper"):
        bare_names(twice)


def test_names_of_no_layout_are_quoted(tmp_path: Path) -> None:
    torch.save({"encoder.conv.weight": torch.ones(1), "encoder.conv.bias": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"its 2 names are encoder\.conv\.weight, encoder\.conv\.bias and so on"):
        MaskFormer.from_pretrained(tmp_path / "other.pth")


@pytest.mark.parametrize("options", [{"query_input": True}, {"box_head": True}, {"mask_position": True}])
def test_options_of_this_package_are_told_by_its_names(tmp_path: Path, options: dict) -> None:
    model = build_model(SMALL, **options)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    read = MaskFormer.from_pretrained(tmp_path / "weights.pth")
    assert_same_weights(read, model)
    assert read.config == model.config


def test_a_recipe_tells_the_backbone_that_names_do_not(tmp_path: Path) -> None:
    model = build_model(SMALL, backbone="test_resnet")
    torch.save({"state_dict": _under("model.", dict(model.state_dict()))}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match=r"backbone\.patch_embed.* is missing"):
        MaskFormer.from_pretrained(tmp_path / "weights.ckpt")
    recipe = replace(Config(), model=replace(SMALL, backbone="test_resnet", num_classes=None))
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "weights.ckpt", config=recipe), model)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["resnet50", "test_resnet"])
def test_a_backbone_is_found_under_any_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    torch.manual_seed(0)
    backbone = build_pretrained_backbone(ModelConfig(backbone=name))
    weights = {key.removeprefix("net."): value for key, value in backbone.state_dict().items()}
    torch.save({"state_dict": _under(prefix, weights), "head.w": torch.ones(1)}, tmp_path / "weights.pth")
    read = build_pretrained_backbone(ModelConfig(backbone=name, backbone_weights=str(tmp_path / "weights.pth")))
    assert_same_weights(read, backbone)


def test_the_backbone_of_a_wrapped_model_is_read(model, tmp_path: Path) -> None:
    torch.save(_under("module._orig_mod.", _layouts(model)["original"]), tmp_path / "weights.pth")
    weights = read_backbone_weights(tmp_path / "weights.pth")
    assert torch.equal(weights["stem.conv1.weight"], model.state_dict()["backbone.stem.conv1.weight"])


def test_quantised_weights_are_refused(model, tmp_path: Path) -> None:
    weights = _layouts(model)["native"]
    weights["class_head.weight"] = weights["class_head.weight"].to(torch.int8)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"class_embed\.weight must be floating-point numbers, got int8"):
        MaskFormer.from_pretrained(tmp_path / "weights.pth")


def test_half_precision_is_read(model, tmp_path: Path) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    torch.save(half, tmp_path / "weights.pth")
    read = MaskFormer.from_pretrained(tmp_path / "weights.pth")
    assert torch.equal(read.class_head.weight, model.class_head.weight.half().float())


def test_parts_of_the_search() -> None:
    assert layout_of(["a", 3, "x.sem_seg_head.y"]) == "original" and layout_of(["a"]) is None
    assert find_state([1]) == [1] and find_state({"model": {"a": "text"}}) == {"a": "text"}
    assert set(names_of({"p.a.b": torch.ones(1), "p.c": torch.ones(1), "q": torch.ones(1)}, ["a_b", "c"])) == {
        "a.b",
        "c",
    }
    cyclic: dict = {}
    cyclic["model"] = cyclic
    assert find_state(cyclic) is not None
