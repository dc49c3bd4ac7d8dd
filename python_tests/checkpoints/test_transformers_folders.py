"""Folders that transformers writes and reads: equal outputs on both sides, exact weights through round trips."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.layouts.transformers_config import read_transformers_config, write_transformers_config
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError

transformers = pytest.importorskip("transformers")

INFO = DatasetInfo("three", ("sky", "car", "tree"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), thing_classes=(1,))
STAGES = ["stage1", "stage2", "stage3", "stage4"]
DERIVED = re.compile(r"relative_position_index$|criterion\.")
UNUSED = "model.pixel_level_module.encoder.model.layernorm"  # of a pooled feature


def their_config(backbone: str) -> object:
    swin, resnet = transformers.SwinConfig, transformers.ResNetConfig
    return transformers.MaskFormerConfig(
        backbone_config=(swin if backbone == "swin_tiny" else resnet)(out_features=STAGES),
        decoder_config=transformers.DetrConfig(
            d_model=64, decoder_layers=2, decoder_ffn_dim=48, decoder_attention_heads=4, num_queries=7, dropout=0.2
        ),
        fpn_feature_size=64,
        mask_feature_size=32,
        mask_weight=5.0,
        id2label={0: "sky", 1: "car", 2: "tree"},
        label2id={"sky": 0, "car": 1, "tree": 2},
    )


def randomise(model: nn.Module) -> None:
    """Let no weight keep a value that hides an exchange, such as 1 or 0."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    for name, statistic in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(statistic, 0.5, 2.0)
        elif name.endswith((".norm.weight", ".norm.bias")):  # of frozen norms
            nn.init.normal_(statistic, std=0.05)


def assert_same_outputs(ours: MaskFormer, theirs: nn.Module) -> None:
    images = torch.randn(1, 3, 75, 100)
    with torch.no_grad():
        out, expected = ours(images), theirs(images)
    torch.testing.assert_close(out.class_logits[-1], expected.class_queries_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.mask_logits(), expected.masks_queries_logits, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=["swin_tiny", "resnet50"])
def their_folder(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = transformers.MaskFormerForInstanceSegmentation(their_config(request.param)).eval()
    randomise(model)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    processor = transformers.MaskFormerImageProcessor(
        size={"shortest_edge": 640, "longest_edge": 2560}, size_divisor=64, image_mean=[0.5, 0.4, 0.3]
    )
    processor.save_pretrained(folder)
    return folder


def test_their_folder_predicts_the_same_here_and_after_the_round_trip(their_folder: Path, tmp_path: Path) -> None:
    theirs, loading = transformers.MaskFormerForInstanceSegmentation.from_pretrained(
        their_folder, output_loading_info=True
    )
    ours = MaskFormer.from_pretrained(their_folder)
    assert_same_outputs(ours, theirs.eval())
    assert ours.dataset_info.classes == ("sky", "car", "tree")
    assert (ours.config.num_heads, ours.config.dropout) == (4, 0.2)
    assert ours.recipe.criterion.mask_weight == 5.0
    assert ours.config.pixel_mean == [127.5, 102.0, 76.5] and ours.size_divisibility == 64
    assert (ours.recipe.inference.min_size, ours.recipe.inference.max_size) == (640, 2560)

    back = ours.save_pretrained(tmp_path / "back", layout="hf")
    again, loading = transformers.MaskFormerForInstanceSegmentation.from_pretrained(back, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if not name.startswith(UNUSED))
    assert again.config.id2label == theirs.config.id2label
    for key in ("fpn_feature_size", "mask_feature_size", "mask_weight", "no_object_weight"):
        assert getattr(again.config, key) == getattr(theirs.config, key)
    processor = transformers.MaskFormerImageProcessor.from_pretrained(back)
    assert processor.image_mean == pytest.approx([0.5, 0.4, 0.3]) and processor.size_divisor == 64
    assert dict(processor.size) == {"shortest_edge": 640, "longest_edge": 2560}


def test_processors_of_old_versions_are_read(tmp_path: Path) -> None:
    old = {
        "feature_extractor_type": "MaskFormerFeatureExtractor",
        "size": 640,
        "max_size": 2560,
        "size_divisibility": 64,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    config, _ = read_transformers_config(tmp_path, ModelConfig(num_classes=3))
    assert (config.inference.min_size, config.inference.max_size, config.model.size_divisibility) == (640, 2560, 64)


@pytest.mark.parametrize("backbone", ["swin_tiny", "resnet50"])
def test_our_folder_predicts_the_same_there(backbone: str, tmp_path: Path) -> None:
    model = build_model(
        ModelConfig(
            backbone=backbone, num_classes=3, num_queries=7, hidden_dim=64, feedforward_dim=48, decoder_layers=2
        )
    ).eval()
    randomise(model)
    folder = model.save_pretrained(tmp_path / "hf", layout="hf", config=Config(), info=INFO)
    theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder).eval()
    assert_same_outputs(model, theirs)
    assert theirs.config.id2label == {0: "sky", 1: "car", 2: "tree"}


@pytest.mark.parametrize("backbone", ["swin_small", "swin_base", "swin_large", "resnet101"])
def test_transformers_builds_every_other_backbone_with_the_same_shapes(backbone: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(backbone=backbone, num_classes=3))
    write_transformers_config(tmp_path, Config(model=model.config), INFO)
    with torch.device("meta"):
        theirs = transformers.MaskFormerForInstanceSegmentation(transformers.MaskFormerConfig.from_pretrained(tmp_path))
    ours = {original_name(name): value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in to_original_names(theirs.state_dict()).items()}
    assert {name: shape for name, shape in found.items() if not DERIVED.search(name)} == ours


def test_split_and_bin_weights_and_a_file_alone_are_read(their_folder: Path, tmp_path: Path) -> None:
    weights = MaskFormer.from_pretrained(their_folder).state_dict()

    def assert_read(source: Path) -> MaskFormer:
        model = MaskFormer.from_pretrained(source)
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        return model

    state = read_state_dict(their_folder / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert assert_read(tmp_path / "pytorch_model.bin").config.num_heads == 8  # shapes do not tell
    shutil.copy(their_folder / "config.json", tmp_path)
    assert assert_read(tmp_path).config.num_heads == 4
    assert_read(their_folder / "model.safetensors")

    (tmp_path / "pytorch_model.bin").unlink()
    halves = [dict(list(state.items())[start::2]) for start in range(2)]
    for number, half in enumerate(halves):
        torch.save(half, tmp_path / f"pytorch_model-{number}.bin")
    places = {name: f"pytorch_model-{number}.bin" for number, half in enumerate(halves) for name in half}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert_read(tmp_path)


def test_other_configurations_and_damaged_ones_are_refused(their_folder: Path, tmp_path: Path) -> None:
    shutil.copy(their_folder / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mask2former"}')
    with pytest.raises(UserError, match=r"config\.json: model_type must be maskformer, got 'mask2former'"):
        MaskFormer.from_pretrained(tmp_path)
    for key, value in (("decoder_config", 7), ("backbone_config", "swin")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "maskformer", key: value}))
        with pytest.raises(UserError, match=rf"config\.json: {key} must be a JSON object, got"):
            MaskFormer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "maskformer", "decoder_config": {"dropout": "much"}}')
    with pytest.raises(UserError, match=r"config\.json: .*model\.dropout"):
        MaskFormer.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 0.5}')
    with pytest.raises(UserError, match=r"preprocessor_config\.json: image_mean must be three numbers, got 0\.5"):
        MaskFormer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not .*: it is not valid JSON"):
        MaskFormer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"backbone": "resnet101c"}, r"model\.backbone=resnet101c cannot be written"),
        ({"backbone": "resnet18"}, r"model\.backbone=resnet18 cannot be written"),
        ({"query_input": True}, r"model\.query_input=True cannot be written"),
        ({"decoder_memory": "pixel_decoder"}, r"model\.decoder_memory=pixel_decoder cannot be written"),
        ({"decoder_feature": 1}, r"model\.decoder_feature=1 cannot be written"),
        ({"pixel_decoder_dim": 48}, r"model\.pixel_decoder_dim=48 cannot be written .* multiple of 32"),
    ],
)
def test_what_transformers_cannot_express_is_named(overrides: dict, message: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(num_classes=3, hidden_dim=32, decoder_layers=1), **overrides)
    with pytest.raises(UserError, match=message):
        model.save_pretrained(tmp_path / "hf", layout="hf")
