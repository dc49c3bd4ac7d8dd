"""Weights from strangers: nothing in a header is looked up, contacted, shown raw, or built without bounds."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import socket
from pathlib import Path

import pytest
import torch
from checkpoint_files import INFO, SIZES
from forge import forged
from tiny import tiny_config

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.files.safetensors_files import write_safetensors
from maskformer_ext.checkpoints.layouts.native import info_from_json
from maskformer_ext.checkpoints.layouts.transformers_config import read_transformers_config
from maskformer_ext.checkpoints.layouts.transformers_names import to_transformers_names
from maskformer_ext.config import Config, ModelConfig, to_dict
from maskformer_ext.config.load import config_from_dict, load_config, override_config, save_config
from maskformer_ext.convert import main
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.backbone import build_backbone

SMALL = tiny_config(3, backbone="test_resnet", **SIZES)
ADDRESSES = [
    *("hf_hub:attacker/x", "hf-hub:attacker/x", "timm:hf_hub:attacker/x", "local-dir:/etc", "local_dir:/etc"),
    *("https://example.org/x", "attacker/x", "../x", "/etc/passwd", "timm/resnet50.a1_in1k", "resnet50.attacker", ""),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch) -> None:
    """Let nothing contact another machine, and give the environment a secret."""

    def contact(*_: object) -> None:
        raise AssertionError("another machine was contacted")

    monkeypatch.setattr(socket.socket, "connect", contact)
    monkeypatch.setattr(socket, "getaddrinfo", contact)
    monkeypatch.setenv("SECRET", "hunter2")


@pytest.fixture(scope="module")
def model() -> MaskFormer:
    torch.manual_seed(0)
    return build_model(SMALL)


def _header() -> tuple[dict, dict]:
    return to_dict(Config(model=SMALL)), json.loads(json.dumps(dataclasses.asdict(INFO)))


def _write(model: MaskFormer, folder: Path, config: dict, info: dict) -> Path:
    header = {"config": json.dumps(config), "dataset": json.dumps(info)}
    write_safetensors(folder / "model.safetensors", model.state_dict(), header)
    return folder / "model.safetensors"


def _set(values: dict, key: str, value: object) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values[section]
    values[name] = value


def test_a_secret_stays_where_it_is(model, tmp_path: Path, capsys) -> None:
    config, info = _header()
    for key in ("name", "output_dir", "data.root", "init_from", "model.backbone_weights"):
        _set(config, key, "${oc.env:SECRET}")
    info["name"], info["classes"][0] = "${oc.env:SECRET}", "${oc.env:SECRET}"
    file = _write(model, tmp_path, config, info)
    read = MaskFormer.from_pretrained(file)
    assert read.recipe.name == read.dataset_info.classes[0] == "${oc.env:SECRET}"
    assert override_config(read.recipe, ["inference.top_k=5"]).name == "${oc.env:SECRET}"
    assert main([str(file), str(tmp_path / "out")]) == 0
    assert load_config(tmp_path / "out").name == "${oc.env:SECRET}"  # nor from what was written here
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"hunter2" not in written and "hunter2" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", ["${oc.env:SECRET}", "${name}", "a\\${b}", "\\\\${x", "${", "$", "a\\"])
def test_texts_of_a_header_are_literal_through_files_and_overrides(tmp_path: Path, text: str) -> None:
    config = config_from_dict({"data": {"root": text}}, "header")
    assert config.data.root == text
    save_config(override_config(config, ["seed=1"]), tmp_path / "config.yaml")
    assert load_config(tmp_path).data.root == text


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_backbone_is_a_name_and_no_address(model, tmp_path: Path, name: str) -> None:
    config, info = _header()
    config["model"]["backbone"] = name
    with pytest.raises(UserError, match=r"model\.backbone must be resnet50, .*swin_large, or a name that timm"):
        MaskFormer.from_pretrained(_write(model, tmp_path, config, info))
    with pytest.raises(UserError, match=r"model\.backbone must be"):
        build_backbone(ModelConfig(backbone=name))  # nor where the user writes it


def test_a_misspelt_backbone_is_told_its_neighbours() -> None:
    with pytest.raises(UserError, match=r"got 'resnet5O'; did you mean .*resnet50") as caught:
        build_backbone(ModelConfig(backbone="resnet5O"))
    near = str(caught.value).partition("did you mean ")[2].rstrip("?").split(" or ")
    assert len(near) == len(set(near)) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.num_queries", 10**9),
        ("model.num_queries", 99_999),
        ("model.hidden_dim", 65_536),
        ("model.hidden_dim", 31),
        ("model.mask_dim", 60_000),
        ("model.feedforward_dim", 1_000_000),
        ("model.pixel_decoder_dim", 65_536),
        ("model.decoder_layers", 1000),
        ("model.decoder_layers", 10**6),
        ("model.num_classes", 10**6),
        ("model.num_heads", 3),
        ("model.size_divisibility", 10**9),
        ("model.backbone", "vit_giant_patch14_clip_224"),
        ("model.pixel_std", [0, 0, 0]),
        ("model.pixel_mean", [1e400, 0, 0]),
        ("model.dropout", float("nan")),
        ("inference.min_size", 10**9),
        ("inference.top_k", 10**12),
        ("inference.tile", 1),
        ("inference.tta_min_sizes", [400] * 5000),
        ("criterion.alpha", float("inf")),
        ("seed", 10**30),
        ("model", 3),
        ("inference", []),
    ],
)
def test_numbers_are_bounded_before_anything_is_built(model, tmp_path: Path, key: str, value: object) -> None:
    config, info = _header()
    _set(config, key, value)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        MaskFormer.from_pretrained(_write(model, tmp_path, config, info))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["a"] * 10_000, "names 10000 classes, but the model has 3"),
        ("classes", ["a", 1, "c"], "classes a list of names"),
        ("classes", "abc", "classes a list of names"),
        ("name", 5, "name must be text"),
        ("colors", [[1, 2]] * 3, "colors must be 3 times"),
        ("colors", [[1, 2, 999]] * 3, "colors must be 3 times"),
        ("colors", [], "colors must be 3 times"),
        ("thing_classes", [7], r"class ids in 0\.\.2"),
        ("thing_classes", [1, 1], "a class twice"),
        ("thing_classes", 1, "class ids"),
        ("ignore_label", 1e400, "ignore_label must be a 32-bit integer"),
    ],
)
def test_a_description_of_classes_must_agree_with_itself(model, tmp_path: Path, key: str, value, message: str) -> None:
    config, info = _header()
    info[key] = value
    with pytest.raises(UserError, match=rf"the description of the classes is damaged: .*{message}"):
        MaskFormer.from_pretrained(_write(model, tmp_path, config, info))


def test_a_description_nested_without_end_is_one_sentence() -> None:
    with pytest.raises(UserError, match="nested too deeply"):
        info_from_json("[" * 1_000_000)


def test_no_name_reaches_a_terminal_as_a_command(model, tmp_path: Path) -> None:
    config, info = _header()
    info["classes"][1], info["name"] = "car\x1b[2J\u202e  2", "\x1b]0;x\x07"
    config["name"] = "a\x1b[31m"
    read = MaskFormer.from_pretrained(_write(model, tmp_path, config, info))
    assert read.dataset_info.classes[1] == "car\\x1b[2J\\u202e  2"
    assert read.dataset_info.name.isprintable() and read.recipe.name.isprintable()
    torch.save({"sem_seg_head.\x1b[2J": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(UserError) as caught:
        MaskFormer.from_pretrained(tmp_path / "x.pth")
    assert str(caught.value).isprintable()


def test_forged_headers_are_read_or_one_sentence(model, tmp_path: Path) -> None:
    read = 0
    for seed in range(60):
        values = forged(list(_header()), seed)
        if len(values) != 2:
            continue
        file = _write(model, tmp_path, *values)
        try:
            MaskFormer.from_pretrained(file)
            read += 1
        except UserError as error:
            assert str(error).isprintable() and str(file) in str(error)
    assert read > 5


def test_forged_files_of_transformers_are_read_or_one_sentence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(SMALL, backbone="resnet50")
    folder = model.save_pretrained(tmp_path / "hf", layout="hf", info=INFO)
    for name in ("config.json", "preprocessor_config.json"):
        content = (folder / name).read_text()
        for seed in range(60):
            (folder / name).write_text(json.dumps(forged(json.loads(content), seed)))
            try:
                read_transformers_config(folder, dataclasses.replace(model.config))
            except UserError as error:
                assert str(error).isprintable() and ".json" in str(error)
        (folder / name).write_text("[" * 100_000)
        with pytest.raises(UserError, match=rf"{name} is not .*nested too deeply"):
            read_transformers_config(folder, dataclasses.replace(model.config))
        (folder / name).write_text(content)
    shutil.rmtree(folder)


def test_tensors_that_are_empty_have_no_size(tmp_path: Path) -> None:
    weights = {"sem_seg_head.pixel_decoder.mask_features.weight": torch.zeros(2**40, 0, 3, 3)}
    torch.save(weights | {"backbone.patch_embed.proj.weight": torch.zeros(96, 0, 4, 4)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: .* must have . dimensions above 0|is missing"):
        MaskFormer.from_pretrained(tmp_path / "x.pth")
    torch.save({"sem_seg_head.predictor.transformer.decoder.layers.999999.norm1.weight": torch.ones(1)} | {
        "backbone.stem.conv1.weight": torch.ones(1)}, tmp_path / "x.pth")  # fmt: skip
    with pytest.raises(UserError, match=r"x\.pth: "):
        MaskFormer.from_pretrained(tmp_path / "x.pth")


def test_forged_weights_are_read_or_one_sentence(tmp_path: Path) -> None:
    """Shapes, types and names of tensors at random, in every layout."""
    torch.manual_seed(0)
    own = build_model(SMALL, backbone="resnet50").state_dict()
    own = {name: value.flatten()[:1].clone() if ".res" in name else value for name, value in own.items()}  # small files
    theirs = {original_name(name): value for name, value in own.items()}
    layouts = [own, theirs, to_transformers_names(theirs)]
    strange = [torch.tensor(1.0), torch.zeros(0), torch.zeros(2**30, 0), torch.ones(2, 2, 2), torch.ones(3).bool()]
    rng = random.Random(0)
    for _ in range(60):
        weights = dict(rng.choice(layouts))
        for _ in range(rng.choice((1, 2, 30))):
            name = rng.choice([name for name in weights if not name.startswith("backbone.res")])
            change = rng.randrange(4)
            if change == 0:
                del weights[name]
            elif change == 1:
                weights[rng.choice((f"x.{name}", f"{name}.0", "a.999999999999.b", "\x1b[2J"))] = weights.pop(name)
            elif change == 2:
                weights[name] = rng.choice(strange)
            else:
                weights[f"{name.rpartition('.')[0]}.{10 ** rng.choice((1, 5, 30))}.weight"] = rng.choice(strange)
        torch.save(weights, tmp_path / "x.pth")
        with pytest.raises(UserError) as caught:
            MaskFormer.from_pretrained(tmp_path / "x.pth")
        assert str(caught.value).isprintable() and "x.pth" in str(caught.value)


def test_more_tensors_than_any_network_has_are_not_looked_through(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"k{number}": entry for number in range(100_001)}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"x\.safetensors has 100001 tensors, more than 100000$"):
        MaskFormer.from_pretrained(tmp_path / "x.safetensors")
