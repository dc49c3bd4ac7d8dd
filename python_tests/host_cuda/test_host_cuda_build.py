"""What the stand-in's build compiles again: what changed, and what read it."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_only_what_changed_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("host_cuda")

    monkeypatch.setattr(tool, "FLAGS", ["-O0", f"-I{tmp_path}"])
    monkeypatch.setattr(tool, "PRECOMPILED", str(tmp_path / "all.h"))
    source, header, all_h = tmp_path / "a.cpp", tmp_path / "a.h", tmp_path / "read.h"
    source.write_text('#include "a.h"\nint f() { return one(); }\n')
    header.write_text("inline int one() { return 1; }\n")
    all_h.write_text("inline int two() { return 2; }\n")
    seconds = iter(range(4_000_000_000, 4_001_000_000, 100))

    def compiled(*options: str) -> bool:
        """Compile; say whether that was done now."""
        output = tmp_path / "a.o"
        before = output.stat().st_mtime if output.exists() else 0.0
        tool.compile_one(source, output, *options)
        after = output.stat().st_mtime
        if after != before:
            os.utime(output, (next(seconds),) * 2)  # later than all before, and than the system's headers
        return after != before

    def touch(path: Path) -> None:
        os.utime(path, (next(seconds),) * 2)

    for path in (source, header, all_h):
        touch(path)
    assert compiled() and not compiled()
    touch(header)
    assert compiled() and not compiled()
    touch(all_h)
    assert not compiled(), "nobody reads it"
    assert compiled("-O1") and not compiled("-O1"), "another command"
    precompiled = tmp_path / "all.h.gch"
    tool.compile_one(all_h, precompiled, "-x", "c++-header")
    touch(precompiled)
    options = "-include", str(tmp_path / "all.h")
    assert compiled(*options) and not compiled(*options)
    touch(precompiled)
    assert compiled(*options) and not compiled(*options)
    header.unlink()
    source.write_text("int f() { return 1; }\n")
    touch(source)
    assert compiled() and not compiled(), "a header that is gone and no longer read"
