"""What all commands share: what is printed where nobody reads, and what is said where a package is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskformer_ext import predict
from maskformer_ext.__main__ import COMMANDS
from maskformer_ext.cli import command
from maskformer_ext.cli.extras import MissingPackage, missing_package
from maskformer_ext.errors import UserError

_PLAIN = """
import sys
class Plain:
    '''Finds nothing but what `pip install maskformer-ext` brings.'''
    def find_spec(self, name, path=None, target=None):
        packages = ("torchvision timm accelerate omegaconf yaml rich PIL matplotlib tensorboard safetensors "
                    "huggingface_hub sklearn skimage faster_coco_eval scipy av h5py onnx onnxscript pillow_heif")
        if name.partition(".")[0] in packages.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Plain())
"""


def _python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, **options
    )


def _command(name: str) -> str:
    return f"import runpy, sys; sys.argv[0] = {name!r}; runpy.run_module('{COMMANDS[name]}', run_name='__main__')"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_works_in_a_plain_installation_and_into_a_closed_pipe(name: str) -> None:
    told = _python(_PLAIN + _command(name), "--help")
    assert told.returncode == 0 and "usage" in told.stdout and not told.stderr
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        piped = subprocess.run(
            [sys.executable, "-c", _command(name), "--help"], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert piped.returncode == 0 and not piped.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("predict", ["checkpoint=a", "input=b", "output=c"]),
        ("evaluate", ["checkpoint=a"]),
        ("export", ["checkpoint=a", "output=a.pt2", "size=8,8"]),
        ("convert", ["a.pth", "b"]),
        ("train", ["config=digits"]),
        ("analyze", ["repeats=1"]),
    ],
)
def test_a_missing_package_is_told_in_one_sentence(tmp_path: Path, name: str, arguments: list[str]) -> None:
    for file in ("a", "a.pth", "b"):  # what is missing on the disk is told before any package is asked for
        (tmp_path / file).write_bytes(b"")
    told = _python(_PLAIN + _command(name), *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr and told.stderr.count("\n") == 1
    assert "pip install 'maskformer-ext[train]'" in told.stderr


def test_a_missing_package_is_told_in_python() -> None:
    code = _PLAIN + "from maskformer_ext import build_model"
    told = _python(code)
    last = told.stderr.strip().splitlines()[-1]
    assert last.startswith("maskformer_ext.cli.extras.MissingPackage: this needs the package ")
    assert last.endswith("pip install 'maskformer-ext[train]'")
    assert "ModuleNotFoundError" not in told.stderr


def test_only_optional_packages_are_called_missing() -> None:
    found = missing_package(ModuleNotFoundError("No module named 'timm.models'", name="timm.models"))
    assert isinstance(found, UserError) and isinstance(found, ImportError) and "timm" in str(found)
    assert "[video]" in str(missing_package(ModuleNotFoundError("No module named 'av'", name="av")))
    assert missing_package(ModuleNotFoundError("No module named 'maskformer_ext.x'", name="maskformer_ext.x")) is None
    assert missing_package(ImportError("cannot import name 'x' from 'timm'", name="timm")) is None
    broken = missing_package(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert str(broken) == "this needs the package torch: pip install torch"
    assert missing_package(found) is found
    assert isinstance(found, MissingPackage)


def _printing(text: str) -> str:
    code = "from maskformer_ext.cli.command import run_command\nimport sys\n"
    return code + f"sys.exit(run_command(lambda arguments: print({text!r}) or 0, '', ['a']))"


def test_a_command_goes_on_where_its_output_ends() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    work = (
        "from maskformer_ext.cli.command import run_command\nimport sys\n"
        "def work(arguments):\n"
        "    for number in range(20000): print('x' * 80)\n"
        "    print('done', file=sys.stderr)\n"
        "    return 7\n"
        "sys.exit(run_command(work, '', ['a']))"
    )
    with open(writer, "w") as closed:
        told = subprocess.run([sys.executable, "-c", work], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert told.returncode == 7 and told.stderr == "done\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's device that is always full")
def test_output_on_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as full:
        told = subprocess.run([sys.executable, "-c", _printing("x")], stdout=full, stderr=subprocess.PIPE, text=True)
    assert told.returncode == 1
    assert told.stderr == "error: what the command prints could not be written: No space left on device\n"


def test_a_command_without_streams_works() -> None:
    told = _python("import sys; sys.stdout = sys.stderr = None\n" + _printing("x"))
    assert told.returncode == 0


def test_any_text_can_be_printed_in_any_encoding() -> None:
    told = _python(_printing("\u00d7 caf\udce9"), environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert told.returncode == 0 and told.stdout == "\\xd7 caf\\udce9\n"


def test_streams_are_as_they_were_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    assert predict.main(["--help"]) == 0 and predict.main([]) == 2
    assert (sys.stdout, sys.stderr) == before


def test_an_interrupted_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    assert command.run_command(interrupted, "", ["a"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_help_may_be_made_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_command(lambda arguments: 0, lambda: "made", ["--help"]) == 0
    assert capsys.readouterr().out == "made\n"
