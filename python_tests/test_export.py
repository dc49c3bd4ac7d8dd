"""The command export: what it writes and checks, what it refuses, and that it says so in one line."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model, export
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs import agreement
from maskformer_ext.inference.programs.export import ExportRequest, check_exportable
from maskformer_ext.inference.programs.metadata import read_metadata

INFO = DatasetInfo("five", tuple("abcde"), ((9, 9, 9),) * 5)
THINGS = dataclasses.replace(INFO, thing_classes=(0, 1))
SIZE = (50, 70)


def _save_run(folder: Path, info: DatasetInfo = INFO, task: str = "semantic") -> Path:
    torch.manual_seed(0)
    config = Config(name="tiny")
    config.model, config.data.task = tiny_config(INFO.num_classes, backbone="resnet10t"), task
    save_checkpoint(folder, 0, model=build_model(config.model).eval(), config=config, info=info, training={})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run: an untrained model."""
    return _save_run(tmp_path_factory.mktemp("run"))


def test_the_command_writes_and_checks_a_program(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "model.pt2"
    assert export.main([f"checkpoint={run}", f"output={file}", "size=48,40", "batch=1"]) == 0
    out, err = capsys.readouterr()
    written, agrees, path, then, after = out.splitlines()
    assert "images (1, 3, 48, 40) uint8 RGB -> classes, class_logits, mask_logits" in written
    assert re.search(r"agrees with the network in torch .* 1920 of 1920 pixels have the same class", agrees)
    assert (path, err, then) == (str(file), "", "next:")
    assert after.split() == ["maskformer-ext", "predict", f"checkpoint={file}", "input=photo.jpg", "output=predictions"]
    classes = torch.export.load(file).module()(torch.zeros((1, 3, 48, 40), dtype=torch.uint8))["classes"]
    assert (tuple(classes.shape), classes.dtype) == ((1, 48, 40), torch.int64)
    assert read_metadata(file).size == (48, 40)


def test_a_file_that_does_something_else_is_an_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    open_program = agreement.open_program

    def other(*arguments: object) -> object:
        run_program = open_program(*arguments)  # type: ignore[arg-type]
        return lambda images: [values + 1 for values in run_program(images)]

    monkeypatch.setattr(agreement, "open_program", other)
    assert export.main([f"checkpoint={run}", f"output={tmp_path / 'a.pt2'}", "size=48,40", "batch=1"]) == 2
    assert "a.pt2 in torch does not do what the network does" in capsys.readouterr().err


@pytest.mark.parametrize(("pixels", "status"), [(1, 0), (40, 2)])
def test_single_pixels_beside_borders_are_no_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, status: int
) -> None:
    open_program = agreement.open_program

    def other(*arguments: object) -> object:
        run_program = open_program(*arguments)  # type: ignore[arg-type]

        def changed(images: torch.Tensor) -> list[torch.Tensor]:
            classes, *others = run_program(images)
            flat = classes.clone().flatten()
            flat[:pixels] = (flat[:pixels] + 1) % INFO.num_classes
            return [flat.view_as(classes), *others]

        return changed

    monkeypatch.setattr(agreement, "open_program", other)
    arguments = [
        f"checkpoint={run}",
        f"output={tmp_path / 'a.pt2'}",
        "size=48,40",
        "batch=1",
        "outputs=classes,queries",
    ]
    assert export.main(arguments) == status


def test_a_second_runtime_that_differs_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(runtime: str, *_: object) -> str:
        if runtime in differing:
            raise agreement.Differs(f"a.onnx in {runtime} does not do what the network does")
        return f"agrees in {runtime}"

    monkeypatch.setattr(agreement, "_check_in", check)
    monkeypatch.setattr(agreement, "is_installed", lambda _: True)
    arguments = torch.nn.Identity(), tmp_path / "a.onnx", None, [torch.zeros(1)]
    differing = {"openvino"}
    lines = agreement.check_program(*arguments)  # type: ignore[arg-type]
    assert lines[0] == "agrees in onnxruntime"
    assert lines[1].startswith("warning: a.onnx in openvino") and lines[1].endswith("run this file in onnxruntime")
    differing = {"onnxruntime"}
    with pytest.raises(UserError, match=r"a\.onnx in onnxruntime"):
        agreement.check_program(*arguments)  # type: ignore[arg-type]


def test_instances_are_checked_on_an_image_in_onnx_runtimes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is an optional dependency")
    run = _save_run(tmp_path / "run", THINGS, "instance")
    Image.effect_noise((70, 50), 90).convert("RGB").save(tmp_path / "photo.png")
    arguments = [f"checkpoint={run}", f"output={tmp_path / 'a.onnx'}", f"check={tmp_path / 'photo.png'}"]
    assert export.main(arguments) == 0
    out = capsys.readouterr().out
    assert "instance, " in out and "masks, scores, labels, boxes, class_logits, mask_logits" in out
    assert re.search(r"in onnxruntime \S+, images 1x3?\d+x\d+: (\d+) of \1 instances have the same class", out)


def test_onnx_without_its_packages_says_what_to_install(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([f"checkpoint={run}", f"output={tmp_path / 'model.onnx'}", "size=32,32"]) == 2
    assert "pip install 'maskformer-ext[onnx]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "inference", "info", "request_", "expected"),
    [
        ("semantic", {}, INFO, {}, ("semantic", ("classes", "queries"))),
        ("semantic", {}, INFO, {"outputs": ("scores",)}, ("semantic", ("scores",))),
        ("panoptic", {}, THINGS, {}, ("panoptic", ("segments", "queries"))),
        ("panoptic", {}, THINGS, {"outputs": ("classes",)}, ("semantic", ("classes",))),
        ("instance", {}, THINGS, {}, ("instance", ("instances", "queries"))),
        ("panoptic", {"tile": 70}, INFO, {"size": SIZE}, ("semantic", ("classes", "queries"))),
        ("semantic", {"semantic": "argmax"}, INFO, {}, ("semantic", ("classes", "queries"))),
        ("semantic", {"tta": True, "tile": 64}, INFO, {"outputs": ("queries",)}, ("semantic", ("queries",))),
        ("instance", {}, THINGS, {"task": "semantic"}, "task=semantic is what this model never learnt"),
        ("semantic", {"tta": True}, INFO, {}, "inference.tta=true"),
        ("semantic", {"semantic": "argmax"}, INFO, {"outputs": ("scores",)}, "inference.semantic=sum"),
        ("panoptic", {"tile": 64}, INFO, {"size": SIZE}, "size=64x64"),
        ("panoptic", {"tile": 64}, INFO, {}, "cuts images into tiles (inference.tile=64)"),
        ("panoptic", {}, THINGS, {"task": "panoptic", "outputs": ("classes",)}, "outputs=classes belongs to"),
        ("semantic", {}, DatasetInfo("one", ("a",), ((9, 9, 9),)), {}, "one class only"),
    ],
)
def test_what_a_program_can_do(task: str, inference: dict, info: DatasetInfo, request_: dict, expected: object) -> None:
    config = Config()
    config.data.task = task
    for key, value in inference.items():
        setattr(config.inference, key, value)
    if not isinstance(expected, str):
        assert check_exportable(config, info, ExportRequest(**request_)) == expected
        return
    with pytest.raises(UserError, match=re.escape(expected)):
        check_exportable(config, info, ExportRequest(**request_))


def test_a_per_pixel_baseline_has_classes_only() -> None:
    config = Config()
    config.model.architecture = "per_pixel_baseline"
    assert check_exportable(config, THINGS, ExportRequest())[0] == "semantic"
    with pytest.raises(UserError, match="can do semantic only"):
        check_exportable(config, THINGS, ExportRequest(outputs=("segments",)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint=x", "output=y.pb"], "must end in .onnx or .pt2"),
        (["checkpoint=x.onnx", "output=y.onnx"], "x.onnx is exported already"),
        (["checkpoint=x", "output=y.pt2", "size=32"], "size must be height and width"),
        (["checkpoint=x", "output=y.pt2", "batch=0"], "batch must be dynamic or a number"),
        (["checkpoint=x", "output=y.pt2", "task=boxes"], "task must be one of semantic, instance, panoptic"),
        (["checkpoint=x", "output=y.pt2", "outputs=masks"], "outputs must be one of classes, scores, segments"),
        (["checkpoint=x", "output=y.pt2", "check=maybe"], "check must be true or false"),
        (["checkpoint=x", "output=/nowhere/y.pt2"], "the folder /nowhere does not exist"),
        (["checkpoint=x", "output=y.pt2", "inference.tile=3"], "unknown key 'inference.tile'"),
        (["checkpoint=/nowhere", "output=y.pt2"], "does not exist"),
    ],
)
def test_export_says_in_one_sentence_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ") and errors.count("\n") == 1
