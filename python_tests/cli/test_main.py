"""`maskformer-ext`, or `python -m maskformer_ext`, lists the commands and runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maskformer_ext import __version__
from maskformer_ext.__main__ import COMMANDS, describe_commands, main


def test_every_command_is_listed_with_one_line_without_torch() -> None:
    code = (
        "import sys; from maskformer_ext.__main__ import main\n"
        "status = main(['--help']) + main(['--version'])\n"
        "print(status, [name for name in ('torch', 'numpy', 'yaml') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    assert lines[0].startswith(f"maskformer-ext {__version__}: ") and lines[-1] == "0 []" and not told.stderr
    for name in COMMANDS:
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        said = line.removeprefix(f"  {name}").strip()
        assert said[0].isupper() and "`" not in said and 2 <= len(said.split()) <= 12


def test_without_a_command_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: maskformer-ext COMMAND " in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_with_its_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: maskformer-ext {name} ")


def test_help_explains_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "predict"]) == 0
    assert capsys.readouterr().out.startswith("usage: maskformer-ext predict ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predct", "input=a"], "there is no command 'predct': did you mean maskformer-ext predict input=a?"),
        (["Train"], "there is no command 'Train': did you mean maskformer-ext train?"),
        (["--what"], f"there is no command '--what': the commands are {', '.join(COMMANDS)}"),
        (
            ["config=digits", "seed=1"],
            "the command is missing before 'config=digits': did you mean maskformer-ext train ",
        ),
        (["input=a.png"], "the command is missing before 'input=a.png': did you mean maskformer-ext predict "),
        (["a\x1b[31m"], "there is no command 'a\\x1b[31m': the commands are "),
    ],
)
def test_an_unknown_command_is_named_with_the_nearest(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_every_command_is_in_one_group() -> None:
    told = describe_commands()
    assert [told.count(f"\n  {name} ") for name in COMMANDS] == [1] * len(COMMANDS)


def test_the_console_script_is_this_program() -> None:
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'maskformer-ext = "maskformer_ext.__main__:main"' in project


def test_the_exit_status_is_the_commands() -> None:
    command = [sys.executable, "-m", "maskformer_ext", "predict", "batch=0"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.startswith("error: checkpoint= is missing: give ")
