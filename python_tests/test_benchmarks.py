"""The benchmarks' own measurements."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import report, tables
from benchmarks.case import Case, relative_error
from benchmarks.memory import default_allocator_environment

ROOT = Path(__file__).resolve().parent.parent
MEASURE = """
import json, torch
from benchmarks.memory import peak_extra
held = torch.ones(50_000_000)
def call():
    temporary = torch.ones(25_000_000)
    return temporary[:1000].clone()
call()
print(json.dumps(peak_extra(call, "cpu")))
"""


def test_peak_memory_counts_temporaries_and_not_what_was_there():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, env=default_allocator_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    if measured["method"] != "reset high-water mark":
        pytest.skip("the kernel does not let a process reset its high-water mark")
    assert 95e6 < measured["extra"] < 110e6
    assert measured["process"] > 300e6


def test_a_peer_that_disagrees_stops_the_benchmark():
    case = Case("op", "two ones", lambda: torch.ones(2), {"peer": lambda: torch.tensor([1.0, 1.1])}, 1e-3, {})
    with pytest.raises(AssertionError, match=r"error against peer is 9\.09e-02"):
        case.errors()


def test_relative_error_refuses_outputs_of_other_shape_or_name():
    with pytest.raises(ValueError, match="shape"):
        relative_error(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match="names"):
        relative_error({"a": torch.ones(1)}, {"b": torch.ones(1)})


def test_the_table_says_what_a_figure_is_not():
    call = {"median": 0.002, "error": 0.0}
    record = {"op": "op", "title": "20 masks", "implementation": "reference", "steady_state": False}
    record.update(load=9.2, cores=2)
    record["calls"] = {"ours": call, "scipy": {**call, "median": 0.004}}
    row = report.table([record]).splitlines()[-1]
    assert "2.00x" in row and "2 ms" in row and "4 ms" in row
    assert "reference, not the kernel" in row and "not in steady state" in row
    assert "busy machine, load 9" in row


def test_the_pages_show_what_was_recorded():
    for path, text in tables.pages().items():
        assert path.read_text() == text, f"{path.name} is not what `python -m benchmarks.tables` writes"
