"""What is missing is told before torch is imported, and `--help` never needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import maskformer_ext
from maskformer_ext.__main__ import COMMANDS

_RUN = """
import sys
from {module} import main
status = main(sys.argv[1:])
heavy = [name for name in ("torch", "timm", "torchvision", "accelerate", "matplotlib") if name in sys.modules]
print(status, heavy)
"""


def _run(folder: Path, command: str, *arguments: str) -> tuple[str, str]:
    """Run a command in a process of its own; return its last line of output, and what it says of errors."""
    environment = os.environ | {"PYTHONPATH": str(Path(maskformer_ext.__file__).parents[1])}
    environment.pop("MASKFORMER_EXT_DATA", None)
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(module=COMMANDS[command]), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=120,
    )
    return (done.stdout.splitlines() or [""])[-1], done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_torch(tmp_path: Path, command: str) -> None:
    assert _run(tmp_path, command, "--help") == ("0 []", "")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", ["config=semantic_folder", "data.root=nowhere"], "the folder nowhere is missing: set data.root"),
        ("train", ["config=semantic_folder", "data.root=."], "the folder train/images is missing: check data.root"),
        ("train", ["config=semantic_folder"], "data.root is not set: give the folder of semantic_folder"),
        ("train", ["config=camvid", "data.root=."], "the folder train/images is missing"),
        ("train", ["config=nuclei"], "data.root is not set: give the folder of nuclei (or of all data sets in"),
        ("train", ["config=coco-panoptic/maskformer_panoptic_R50_bs64_554k", "data.root=."], "train2017 is missing"),
        ("train", ["data.name=cityscapes", "data.task=panoptic", "data.root=."], "data.task must be semantic"),
        ("train", ["data.name=imagenet"], "data.name must be digits or"),
        ("train", ["config=digtis"], "did you mean 'digits'"),
        ("train", ["config=mine.yaml"], "'mine.yaml' does not exist"),
        ("train", ["semantic_folder"], "did you mean config=semantic_folder?"),
        ("train", ["semantic-foldr"], "did you mean config=semantic_folder?"),
        ("train", ["what"], "for instance config=digits"),
        ("train", ["train.max_iter=5"], "did you mean 'train.max_iters'"),
        ("train", ["init_from=./nowhere"], "init_from=./nowhere does not exist"),
        ("train", ["resume=nowhere"], "resume: the checkpoint nowhere does not exist"),
        ("train", ["model.backbone_weights=nowhere.pth"], "model.backbone_weights=nowhere.pth does not exist"),
        ("evaluate", ["checkpoint=./nowhere"], "checkpoint=./nowhere does not exist"),
        ("evaluate", ["checkpoint=.", "data.root=nowhere"], "the folder nowhere is missing"),
        ("train", ["config=semantic_folder", "data.root=a.png"], "the folder a.png is a file: set data.root"),
        ("evaluate", ["checkpoint=.", "data.root=a.png"], "the folder a.png is a file: set data.root"),
        ("predict", ["checkpoint=.", "input=a.png", "output=a.png"], "a.png cannot be made: a file has"),
        ("predict", ["checkpoint=.", "input=a.png", "output=out", "task=foo"], "task must be one of semantic"),
        ("evaluate", ["checkpoint=.", "inference.tiel=3"], "did you mean 'inference.tile'"),
        ("evaluate", ["checkpoint=.", "output=nowhere/a.json"], "the folder nowhere does not exist"),
        ("predict", ["checkpoint=.", "input=nowhere", "output=out"], "input=nowhere"),
        ("predict", ["checkpoint=nowhere", "input=a.png", "output=out"], "checkpoint=nowhere does not exist"),
        ("predict", ["checkpoint=output/digit", "input=a.png", "output=out"], "did you mean output/digits?"),
        ("predict", ["checkpoint=.", "input=a.png", "output=out", "inference.tile=x"], "inference.tile must be int"),
        ("export", ["checkpoint=nowhere", "output=a.pt2", "size=32x32"], "checkpoint=nowhere does not exist"),
        ("export", ["checkpoint=.", "output=a.pt2", "size=32"], "size must be height and width"),
        ("convert", ["nowhere", "out"], "INPUT=nowhere does not exist"),
        ("prepare", ["cityscapes", "nowhere"], "the folder nowhere is missing"),
        ("prepare", ["semantic_folder", "nowhere"], "the folder nowhere is missing"),
        ("prepare", ["what", "."], "unknown data set 'what'"),
        ("prepare", ["config=semantic_folder"], "data.root is not set"),
    ],
)
def test_what_is_missing_is_told_before_torch_is_imported(
    tmp_path: Path, command: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "output" / "digits" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a.png").touch()
    last, errors = _run(tmp_path, command, *arguments)
    assert last == "2 []"
    assert message in errors and errors.startswith("error: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("model/config.json", "give its folder, checkpoint=model"),
        ("photo.jpg", "give the output folder of a run, or a file such as .safetensors"),
    ],
)
def test_files_that_hold_no_weights_are_told_apart(tmp_path: Path, file: str, hint: str) -> None:
    for name in ("model/config.json", "model/model.safetensors", "photo.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    last, error = _run(tmp_path, "predict", f"checkpoint={file}", "input=photo.jpg", "output=out")
    assert last == "2 []" and error.startswith(f"error: checkpoint={file} holds no weights: {hint}")
