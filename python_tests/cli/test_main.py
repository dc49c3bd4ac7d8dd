"""`python -m maskformer_ext` lists the commands and runs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from maskformer_ext import __version__
from maskformer_ext.__main__ import COMMANDS, main


def test_every_command_is_listed_with_one_line_without_torch() -> None:
    code = (
        "import sys; from maskformer_ext.__main__ import main\n"
        "status = main(['--help'])\n"
        "print(status, [name for name in ('torch', 'omegaconf', 'PIL') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    assert lines[0] == f"maskformer-ext {__version__}" and lines[-1] == "0 []" and not told.stderr
    for name in COMMANDS:
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        said = line.removeprefix(f"  {name}").strip()
        assert said[0].isupper() and "`" not in said and 2 <= len(said.split()) <= 12


def test_without_a_command_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: python -m maskformer_ext COMMAND ..." in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_with_its_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m maskformer_ext.{name} ")


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predct", "input=a"]) == 2
    assert capsys.readouterr().err.startswith("error: COMMAND must be one of train, ")


def test_the_exit_status_is_the_commands() -> None:
    command = [sys.executable, "-m", "maskformer_ext", "predict", "batch=0"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.startswith("error: checkpoint= is missing: give ")
