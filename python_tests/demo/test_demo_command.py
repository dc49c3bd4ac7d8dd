"""`maskformer-ext demo`: what it prints, how it ends, and what it refuses before anything is loaded."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from tiny import tiny_config

from maskformer_ext.checkpoints.models import MaskFormer
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.demo.command import main
from maskformer_ext.demo.model import Limits, load_demo_model
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs.export import ExportRequest, export_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("demo") / "small model"
    config = tiny_config(1)
    info = DatasetInfo("one", ("thing",), ((1, 2, 3),), thing_classes=(0,))
    MaskFormer(config).save_pretrained(folder, config=Config(model=config), info=info)
    return folder


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_says_its_address_and_ends_quietly(checkpoint: Path, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "maskformer_ext", "demo", f"checkpoint={checkpoint}", "port=0", "samples=none"]
    environment = {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_with(environment)
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        told = re.fullmatch(r"(http://127\.0\.0\.1:\d+) shows small model \(\w+\); Ctrl-C ends it\n", line)
        assert told, line
        with urllib.request.urlopen(told[1], timeout=30) as answer:
            assert b"Drop a picture or a video" in answer.read()
        assert list(tmp_path.glob("maskformer-ext-demo-*"))
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (0, "", "")
    assert not list(tmp_path.glob("maskformer-ext-demo-*"))


def _with(changes: dict[str, str]) -> dict[str, str]:
    import os

    return {**os.environ, **changes}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["port=7860"], "error: checkpoint= is missing: give the output folder of a run"),
        (["checkpoint=/nowhere/run"], "error: checkpoint=/nowhere/run does not exist"),
        (["checkpoint=a/b", "host=0.0.0.0"], "error: host=0.0.0.0: the page is for this machine only (127.0.0.1)"),
        (["checkpoint=a/b", "port=70000"], "error: port must be a number from 0 to 65535, got 70000"),
        (["checkpoint=a/b", "max_upload_mb=0"], "error: max_upload_mb must be a number of megabytes, at least 1"),
        (["checkpoint=a/b", "task=depth"], "error: task must be one of semantic, instance, panoptic"),
        (["checkpoint=a/b", "prot=1"], "error: unknown key 'prot': did you mean 'port'?"),
        (["checkpoint=a/b", "inference.tiles=1"], "error: unknown key 'inference.tiles'"),
    ],
)
def test_what_it_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)


def test_samples_must_be_a_folder_of_pictures(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"checkpoint={checkpoint}", f"samples={tmp_path}"]) == 2
    assert "there is no picture in this folder" in capsys.readouterr().err


def test_an_exported_program_is_shown_as_its_checkpoint_is(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="is an exported program, which predict, evaluate and demo run"):
        MaskFormer.from_pretrained(tmp_path / "weights.onnx")
    program = tmp_path / "small.pt2"
    export_checkpoint(str(checkpoint), program, ExportRequest(outputs=("queries",), size=(48, 64), check=False))
    pixels = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    shown = [load_demo_model(str(source)) for source in (program, checkpoint)]
    assert shown[0].name == "small.pt2" and shown[0].tasks == shown[1].tasks
    assert shown[0].describe(Limits())["classes"] == shown[1].describe(Limits())["classes"]
    found, expected = (model.see(pixels)[0].outputs[0].mask_logits for model in shown)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
