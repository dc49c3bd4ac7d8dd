"""Exported programs: plain operators only, the network's own classes, and what the command says."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
import torch
from maskformer_ext.inference.export import check_exportable
from tiny import tiny_config

from maskformer_ext import build_model, export
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.errors import UserError
from maskformer_ext.inference import programs

INFO = DatasetInfo("five", tuple("abcde"), ((9, 9, 9),) * 5)
SIZE = (50, 70)


def _model(**overrides) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_config(num_classes=5), **overrides).eval()


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"masked_attention": True},
        {"architecture": "per_pixel_baseline"},
        {"architecture": "per_pixel_baseline_plus"},
    ],
    ids=["maskformer", "masked_attention", "per_pixel_baseline", "per_pixel_baseline_plus"],
)
def test_programs_hold_plain_operators_and_give_the_networks_scores(overrides: dict, tmp_path: Path) -> None:
    model = _model(**overrides)
    program = programs.export_program(model, SIZE, batch_size=2, scores=True)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets and not [target for target in targets if target.startswith("maskformer_ext")]
    programs.save_program(program, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert "scores agree" in programs.check_export(model, tmp_path / "model.pt2", SIZE, 2, scores=True)
    with pytest.raises(UserError, match="its scores differ from the network's"):
        programs.check_export(_other(model), tmp_path / "model.pt2", SIZE, 2, scores=True)


def _other(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run: an untrained model."""
    config = Config(name="tiny")
    config.model = tiny_config(INFO.num_classes)
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder, 0, model=_model(), config=config, info=INFO, training={})
    return folder


def test_the_command_writes_and_checks_a_program(run: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "model.pt2"
    assert export.main([f"checkpoint={run}", f"output={file}", "size=48,40"]) == 0
    assert "classes agree with the network's in" in capsys.readouterr().out
    classes = torch.export.load(file).module()(torch.zeros((1, 3, 48, 40), dtype=torch.uint8))
    assert (tuple(classes.shape), classes.dtype) == ((1, 48, 40), torch.int64)


@pytest.mark.parametrize("overrides", [{}, {"architecture": "per_pixel_baseline"}], ids=["maskformer", "per_pixel"])
def test_onnx_gives_the_networks_scores_in_onnxruntime(overrides: dict, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is an optional dependency")
    model = _model(**overrides)
    programs.export_onnx(programs.export_program(model, SIZE, scores=True), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert "scores agree" in programs.check_export(model, tmp_path / "model.onnx", SIZE, 1, scores=True)


def test_onnx_without_its_packages_says_what_to_install(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([f"checkpoint={run}", f"output={tmp_path / 'model.onnx'}", "size=32,32"]) == 2
    assert "pip install 'maskformer-ext[onnx]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "inference", "classes", "size", "message"),
    [
        ("instance", {}, 5, SIZE, "never learnt: it was trained with data.task=instance"),
        ("semantic", {"tta": True}, 5, SIZE, "inference.tta=true"),
        ("semantic", {"semantic": "argmax"}, 5, SIZE, "inference.semantic=argmax"),
        ("panoptic", {"tile": 64}, 5, SIZE, "size=64x64"),
        ("semantic", {}, 1, SIZE, "one class only"),
        ("panoptic", {"tile": 70}, 5, SIZE, None),
        ("panoptic", {}, 5, SIZE, None),
    ],
)
def test_what_a_program_cannot_do_is_refused(
    task: str, inference: dict, classes: int, size: tuple[int, int], message: str | None
) -> None:
    config = Config()
    config.data.task = task
    for key, value in inference.items():
        setattr(config.inference, key, value)
    if message is None:
        check_exportable(config, size, classes)
        return
    with pytest.raises(UserError, match=re.escape(message)):
        check_exportable(config, size, classes)


def test_a_model_for_instances_is_not_exported(tmp_path: Path, capsys) -> None:
    config = Config(name="tiny")
    config.model, config.data.task = tiny_config(INFO.num_classes), "instance"
    info = dataclasses.replace(INFO, thing_classes=(0, 1, 2, 3, 4))
    save_checkpoint(tmp_path / "run", 0, model=_model(), config=config, info=info, training={})
    assert export.main([f"checkpoint={tmp_path / 'run'}", f"output={tmp_path / 'a.pt2'}", "size=32x32"]) == 2
    assert "data.task=panoptic or semantic, or use maskformer_ext.predict" in capsys.readouterr().err
    assert not (tmp_path / "a.pt2").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint=x", "output=y.pt2"], "size= is missing"),
        (["checkpoint=x", "output=y.pb", "size=32,32"], "must end in .onnx or .pt2"),
        (["checkpoint=x", "output=y.pt2", "size=32"], "size must be height and width"),
        (["checkpoint=x", "output=y.pt2", "size=32,32", "batch=0"], "batch must be a number of images"),
        (
            ["checkpoint=x", "output=y.pt2", "size=32,32", "outputs=masks"],
            "outputs must be one of classes, scores",
        ),
        (["checkpoint=x", "output=/nowhere/y.pt2", "size=32,32"], "the folder /nowhere does not exist"),
        (["checkpoint=x", "output=y.pt2", "size=32,32", "inference.tile=3"], "unknown key 'inference.tile'"),
        (["checkpoint=/nowhere", "output=y.pt2", "size=32,32"], "does not exist"),
    ],
)
def test_export_says_in_one_sentence_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ") and errors.count("\n") == 1
