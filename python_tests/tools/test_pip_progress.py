"""What an installation says while it runs: neither nothing nor everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "pip_progress.py"
PIP = """import sys, time
assert sys.argv[1:] == ["--disable-pip-version-check", "install", "a", "--progress-bar", "off"], sys.argv
print("Collecting a")
print("  Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl (918.3 MB)")
print("  Downloading https://files/x/triton-3.7.0-cp311-cp311-linux.whl (1.2 GB)")
print("  Downloading six-1.16.0-py3-none-any.whl (11 kB)")
print("  Downloading small-1.0-py3-none-any.whl (3.0 MB)")
print("Installing collected packages: a, b, c", flush=True)
print("ERROR: the disk is full", file=sys.stderr) if STATUS else None
sys.exit(STATUS)
"""


def run(folder: Path, pip: str) -> subprocess.CompletedProcess[str]:
    (folder / "pip").mkdir(exist_ok=True)
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(pip)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, str(TOOL), "install", "a"], env=environment, cwd=folder, capture_output=True, text=True
    )


def test_large_downloads_and_the_installation_are_said(tmp_path):
    done = run(tmp_path, PIP.replace("STATUS", "0"))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    said = [line.partition(" s  ")[2] for line in done.stdout.splitlines()]
    assert said == ["downloading torch-2.14.1 (918 MB)", "downloading triton-3.7.0 (1200 MB)", "installing 3 packages"]


def test_a_failure_is_shown_with_what_came_before(tmp_path):
    done = run(tmp_path, PIP.replace("STATUS", "2"))
    assert done.returncode == 2
    assert "ERROR: the disk is full" in done.stderr and "six-1.16.0" in done.stderr


def test_a_silence_is_broken(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import pip_progress

    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text("import sys\nsys.stdin.read()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said: list[str] = []
    read, write = os.pipe()
    stdin = os.dup(0)
    os.dup2(read, 0)

    def note(text: str, **_) -> None:
        said.append(text)
        if write not in closed:
            os.close(write)  # only now does pip end
            closed.append(write)

    closed: list[int] = []
    monkeypatch.setattr("builtins.print", note)
    try:
        assert pip_progress.main(["install", "a"], silence=0.05) == 0
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(read)
    assert said and said[0].endswith("still looking for packages")


@pytest.mark.parametrize("line", ["Collecting torch", "Requirement already satisfied: numpy", ""])
def test_the_rest_is_not(line, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import pip_progress

    assert pip_progress.about(line) is None
