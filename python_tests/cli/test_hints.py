"""What a bare argument was probably meant to be, and which commands come next."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskformer_ext import evaluate, export, predict, train
from maskformer_ext.cli.hints import meant_keys, print_next, shell

_PREDICT = ("checkpoint", "input", "output", "task")
_EXPORT = ("checkpoint", "output", "size")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, images with labels, and a photo, in which the test runs."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    (tmp_path / "my images" / "train").mkdir(parents=True)
    (tmp_path / "photo.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "own", "meant"),
    [
        (["photo.jpg"], _PREDICT, "input=photo.jpg"),
        (["run", "photo.jpg", "out"], _PREDICT, "checkpoint=run input=photo.jpg output=out"),
        (["checkpoint=run", "my images", "out"], _PREDICT, "input='my images' output=out"),
        (["weights.pkl", "photos/*.jpg"], _PREDICT, "checkpoint=weights.pkl input='photos/*.jpg'"),
        (["facebook/maskformer-swin-tiny-ade"], _PREDICT, "checkpoint=facebook/maskformer-swin-tiny-ade"),
        (["rnu"], _PREDICT, "checkpoint=rnu"),
        (["https://example.org/a.png"], _PREDICT, "input=https://example.org/a.png"),
        (["run", "model.onnx", "512x768"], _EXPORT, "checkpoint=run output=model.onnx size=512x768"),
        (["photo.jpg", "other.jpg"], _PREDICT, ""),
        (["--checkpoint", "run", "--input=my photo.jpg"], _PREDICT, "checkpoint=run input='my photo.jpg'"),
        (["checkpoint", "=", "run", "input=", "photo.jpg"], _PREDICT, "checkpoint=run input=photo.jpg"),
        (["what"], ("batch",), ""),
    ],
)
def test_bare_arguments_are_given_keys(place: Path, arguments: list[str], own: tuple[str, ...], meant: str) -> None:
    assert meant_keys(arguments, own) == meant


@pytest.mark.parametrize(
    ("command", "arguments", "hint"),
    [
        (predict, ["photo.jpg"], "did you mean input=photo.jpg?"),
        (evaluate, ["run"], "did you mean checkpoint=run?"),
        (export, ["run", "model.onnx"], "did you mean checkpoint=run output=model.onnx?"),
        (train, ["semantic_folder"], "did you mean config=semantic_folder?"),
        (train, ["my images"], "did you mean config=folder data.root='my images'?"),
        (train, ["my images", "instance_folder"], "did you mean config=instance_folder data.root='my images'?"),
        (train, ["config=camvid", "my images"], "did you mean data.root='my images'?"),
        (train, ["run"], "did you mean config=run?"),
        (train, ["mine.yaml"], "did you mean config=mine.yaml?"),
        (train, ["digits", "facebook/maskformer-swin-tiny-ade"], "config=digits init_from=facebook/maskformer-swin-t"),
        (train, ["digits", "camvid"], "for instance config=digits"),
        (train, ["--config", "digits", "--train.max_iters", "5"], "did you mean config=digits train.max_iters=5?"),
        (train, ["what"], "for instance config=digits"),
    ],
)
def test_a_command_says_what_was_meant(place: Path, command, arguments: list[str], hint: str, capsys) -> None:
    assert command.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: '") and " is not of the form key=value" in told and hint in told
    assert told.count("\n") == 1


def test_a_new_classifier_needs_weights(capsys) -> None:
    assert train.main(["config=digits", "reset_head=true"]) == 2
    assert capsys.readouterr().err == "error: reset_head=true needs init_from=WEIGHTS, whose classifier it replaces\n"


def test_what_comes_next_can_be_pasted(capsys) -> None:
    strange = "a\x1b[3m"
    print_next([f"evaluate checkpoint={shell('my run')}", f"demo checkpoint={shell(strange)}"])
    evaluate_line, demo_line = capsys.readouterr().out.splitlines()[1:]
    assert evaluate_line == "  maskformer-ext evaluate checkpoint='my run'"
    assert demo_line == "  maskformer-ext demo checkpoint='a\\x1b[3m'"
