"""Whole models from every layout and back: equal weights, equal outputs, and errors that say what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_files import INFO, SMALL, assert_same_files, assert_same_weights, original_weights, write_original

from maskformer_ext import MaskFormer, PerPixelBaseline, build_model
from maskformer_ext.checkpoints.files.safetensors_files import write_safetensors
from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.convert import main
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.errors import UserError


@pytest.fixture(scope="module")
def resnet() -> MaskFormer:
    torch.manual_seed(1)
    return build_model(SMALL).eval()


@pytest.mark.parametrize("name", ["new.pkl", "new.pth", "old.pkl", "old.pth"])
def test_files_of_the_original_are_read(resnet, tmp_path: Path, name: str) -> None:
    model = MaskFormer.from_pretrained(write_original(resnet, tmp_path / name, old=name.startswith("old")))
    assert_same_weights(model, resnet)
    assert not model.training and model.config == SMALL


@pytest.mark.parametrize(
    "overrides",
    [
        {"architecture": "per_pixel_baseline"},
        {"architecture": "per_pixel_baseline_plus"},
        {"pixel_decoder": "transformer_encoder", "encoder_layers": 1, "backbone": "resnet101c"},
    ],
)
def test_other_architectures_survive_original_and_native_files(tmp_path: Path, overrides: dict) -> None:
    model = build_model(SMALL, **overrides)
    read = type(model).from_pretrained(write_original(model, tmp_path / "weights.pkl"))
    assert_same_weights(read, model)
    assert_same_weights(type(model).from_pretrained(read.save_pretrained(tmp_path / "native")), model)
    with pytest.raises(UserError, match=f"holds a {type(model).__name__}, not a"):
        (PerPixelBaseline if type(model) is MaskFormer else MaskFormer).from_pretrained(tmp_path / "native")
    with pytest.raises(UserError, match=r"model\.(architecture|pixel_decoder)=.* cannot be written for transformers"):
        model.save_pretrained(tmp_path / "hf", layout="hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("layout", ["native", "hf"])
def test_folders_keep_weights_configuration_and_classes(resnet, tmp_path: Path, layout: str) -> None:
    config = replace(Config(name="mine"), model=replace(SMALL, dropout=0.3))
    config.inference.object_mask_threshold = 0.4
    model = build_model(config.model)
    model.load_state_dict(resnet.state_dict())
    folder = model.save_pretrained(tmp_path / "out", layout=layout, config=config, info=INFO)
    read = MaskFormer.from_pretrained(folder)
    assert_same_weights(read, resnet)
    assert read.recipe == config and read.dataset_info == INFO
    again = MaskFormer.from_pretrained(read.save_pretrained(tmp_path / "again", layout=layout))
    assert_same_files(tmp_path / "again", folder)
    assert again.recipe == config


def test_a_native_folder_serves_predict_and_a_run_serves_from_pretrained(resnet, tmp_path: Path) -> None:
    folder = resnet.save_pretrained(tmp_path / "out", info=INFO)
    model, _, info = load_checkpoint(folder)
    assert_same_weights(model, resnet)
    assert info == INFO
    save_checkpoint(tmp_path / "run", 3, model=resnet, config=Config(model=SMALL), info=INFO, training={})
    assert_same_weights(MaskFormer.from_pretrained(tmp_path / "run"), resnet)


def test_other_classes_need_a_new_head(resnet, tmp_path: Path) -> None:
    native = resnet.save_pretrained(tmp_path / "native", info=INFO)
    for source in (native, write_original(resnet, tmp_path / "weights.pkl")):
        with pytest.raises(UserError, match=r"knows 3 classes.*6.*class.*\(7, 32\), got \(4, 32\).*reset_head=true"):
            MaskFormer.from_pretrained(source, num_classes=6)
        model = MaskFormer.from_pretrained(source, num_classes=6, reset_head=True)
        assert model.num_classes == 6 and model.class_head.weight.shape == (7, 32) and model.dataset_info is None
        own, theirs = model.state_dict(), resnet.state_dict()
        assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("class_head."))


def test_a_recipe_fills_in_what_shapes_do_not_tell(resnet, tmp_path: Path) -> None:
    file = write_original(resnet, tmp_path / "weights.pkl")
    recipe = replace(Config(name="theirs"), model=replace(SMALL, num_classes=None, size_divisibility=0))
    model = MaskFormer.from_pretrained(file, config=recipe)
    assert model.recipe.name == "theirs" and model.size_divisibility == 0 and model.num_classes == 3
    recipe.model.backbone = "swin_tiny"
    with pytest.raises(UserError, match=r"model\.backbone=resnet50, but the configuration says swin_tiny"):
        MaskFormer.from_pretrained(file, config=recipe)


def test_a_recipe_must_have_the_heads_that_the_weights_were_trained_with(resnet, tmp_path: Path) -> None:
    recipe = replace(Config(), model=replace(SMALL, num_heads=2))
    assert MaskFormer.from_pretrained(
        write_original(resnet, tmp_path / "weights.pkl"), config=recipe
    )  # knows no number
    with pytest.raises(UserError, match=r"model\.num_heads=8, but the configuration says 2"):
        MaskFormer.from_pretrained(resnet.save_pretrained(tmp_path / "native", info=INFO), config=recipe)


def test_a_recipe_names_the_classes_of_its_data(resnet, tmp_path: Path) -> None:
    recipe = replace(Config(), model=replace(SMALL, num_classes=None))
    recipe.data.name, recipe.data.task = "coco-panoptic", "panoptic"
    model = MaskFormer.from_pretrained(resnet.save_pretrained(tmp_path / "native", info=INFO), config=recipe)
    assert model.dataset_info == INFO  # what was written here says more
    file = write_original(resnet, tmp_path / "weights.pkl")
    model = MaskFormer.from_pretrained(file, config=recipe, num_classes=133, reset_head=True)
    assert model.dataset_info.classes[:2] == ("person", "bicycle") and len(model.dataset_info.thing_classes) == 80


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("backbone.res3.1.conv2.weight"), r"weights\.pth: backbone\.res3\.1\.conv2\.weight is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), r"weights\.pth: extra has no place in this model"),
        (
            lambda w: w.update({"backbone.res2.0.conv1.weight": torch.zeros(7)}),
            r"weights\.pth: backbone\.res2\.0\.conv1\.weight must be \(64, 64, 1, 1\), got \(7,\)",
        ),
        (lambda w: w.pop("backbone.stem.conv1.weight"), r"weights\.pth: backbone\.patch_embed.* is missing"),
    ],
)
def test_weights_that_do_not_fit_are_named(resnet, tmp_path: Path, spoil, message: str) -> None:
    weights = original_weights(resnet)
    spoil(weights)
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        MaskFormer.from_pretrained(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"config": "{", "dataset": "{}"}, "the configuration in its header is damaged"),
        ({"config": "[]", "dataset": "{}"}, "the configuration in its header is damaged: it is a list"),
        ({"config": '{"model": {"num_queries": "many"}}', "dataset": "{}"}, r"model\.num_queries"),
        ({"config": "{}", "dataset": '{"name": "x"}'}, "the description of the classes is damaged: KeyError"),
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, header: dict[str, str], message: str) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)}, header)
    with pytest.raises(UserError, match=rf"model\.safetensors: .*{message}"):
        MaskFormer.from_pretrained(tmp_path)


def test_a_hub_id_is_downloaded(resnet, tmp_path: Path, monkeypatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = resnet.save_pretrained(tmp_path / "snapshot", layout="hf", info=INFO)
    asked = []

    def download(hub_id, allow_patterns):
        asked.append(hub_id)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert_same_weights(MaskFormer.from_pretrained("someone/maskformer"), resnet)
    assert asked == ["someone/maskformer"]

    def fails(hub_id, allow_patterns):
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", fails)
    with pytest.raises(UserError, match=r"someone/maskformer does not exist here and could not .*: no network"):
        MaskFormer.from_pretrained("someone/maskformer")
    with pytest.raises(UserError, match="nowhere does not exist"):
        MaskFormer.from_pretrained("nowhere")


def test_an_interrupted_write_leaves_what_was_there(resnet, tmp_path: Path, monkeypatch) -> None:
    from maskformer_ext.checkpoints.layouts import native

    folder = resnet.save_pretrained(tmp_path / "out", info=INFO)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "save_config", fails)
    with pytest.raises(UserError, match=r"out could not be written: .*No space left"):
        resnet.save_pretrained(folder, overwrite=True)
    with pytest.raises(UserError, match="No space left"):
        resnet.save_pretrained(tmp_path / "new")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    with pytest.raises(UserError, match=r"out exists and is not empty: .*overwrite=true"):
        resnet.save_pretrained(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not replaced: it also holds notes\.txt"):
        resnet.save_pretrained(folder, overwrite=True)
    (folder / "notes.txt").unlink()
    resnet.save_pretrained(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_converts_back_and_forth(resnet, tmp_path: Path, capsys) -> None:
    source = write_original(resnet, tmp_path / "weights.pkl")
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["sky", "car", "tree"], "things": ["car"]}))
    steps = [
        [str(source), str(tmp_path / "a"), f"classes={tmp_path / 'classes.json'}"],
        [str(tmp_path / "a"), str(tmp_path / "b"), "--to", "hf"],
        [str(tmp_path / "b"), str(tmp_path / "c"), "--to=native"],
    ]
    for step in steps:
        assert main(step) == 0
        predict = f"  maskformer-ext predict checkpoint={step[1]} input=photo.jpg output=predictions"
        assert capsys.readouterr().out.splitlines()[-3:] == [step[1], "next:", predict]
    assert_same_files(tmp_path / "a", tmp_path / "c")
    model, _, info = load_checkpoint(tmp_path / "c")
    assert_same_weights(model, resnet)
    assert info.classes == ("sky", "car", "tree") and info.thing_classes == (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.pkl"], "give INPUT and OUTPUT, got 1 names: x.pkl"),
        (["x.pkl", "out"], "x.pkl does not exist"),
        (["x.pkl", "out", "--to", "onnx"], "--to must be one of native, hf, got 'onnx'"),
        (["x.pkl", "out", "class=a.json"], "unknown key 'class': did you mean 'classes'?"),
        (["x.pkl", "out", "num_classes=many"], "num_classes must be a whole number, at least 1, got 'many'"),
        (["x.pkl", "out", "reset_head=yes"], "reset_head must be true or false, got 'yes'"),
        (["x.pkl", "out", "model.backbone=resnet18"], "unknown key 'model.backbone': the keys are to, config"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message: str, capsys) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_explains_itself(capsys) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: maskformer-ext convert INPUT OUTPUT")


def test_weights_can_be_read_by_whom_the_other_files_can(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {})
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
