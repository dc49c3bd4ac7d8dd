"""The rooms of csrc: what may know torch, what may know the host stand-in for CUDA, and where includes lead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.exists(), reason="the tests of an installed package")
SOURCES = [path for path in sorted(CSRC.rglob("*")) if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]
MAY_KNOW_TORCH = re.compile(r"torch/\w+\.h|\w+/(binding|binding_cuda)\.cpp|\w+/(call|call_cuda|check_targets)\.h")
KNOWS_THE_STAND_IN = re.compile(r"common/cuda_(launch|mma)\.cuh|torch/cuda_stream\.h|host_cuda/.*")
_INCLUDE = re.compile(r"^#include ([\"<])(.+)[\">]", re.MULTILINE)


def _name(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_file_includes_only_what_its_room_may_know(path):
    text, name = path.read_text(), _name(path)
    for kind, included in _INCLUDE.findall(text):
        if included.startswith("torch/") or MAY_KNOW_TORCH.fullmatch(included):
            assert MAY_KNOW_TORCH.fullmatch(name), f"{name} knows torch through {included}"
        if kind == '"':
            beside = name.startswith("host_cuda/include/") and (path.parent / included).exists()
            assert (CSRC / included).exists() or beside, f"{name} includes {included}, which is not in csrc"
        if included.startswith("host_cuda/"):
            assert KNOWS_THE_STAND_IN.fullmatch(name), f"{name} knows the stand-in"
    assert "MASKFORMER_EXT_HOST_CUDA" not in text or KNOWS_THE_STAND_IN.fullmatch(name), f"{name} knows the stand-in"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.suffix in {".h", ".cuh"}], ids=_name)
def test_a_header_begins_with_what_it_is_for(path):
    assert path.read_text().startswith("// ")
