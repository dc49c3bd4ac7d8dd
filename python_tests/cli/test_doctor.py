"""`maskformer-ext doctor`: what it looks at, what it finds wrong, and what it says to do about it."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from maskformer_ext.checkpoints import models
from maskformer_ext.cli import doctor
from maskformer_ext.cli.health import kernels, machine, op_calls, packages, self_test
from maskformer_ext.cli.health.findings import NOTE, OK, TROUBLE, Fact, Section
from maskformer_ext.ops.catalog import NUMPY_OPS, OPS
from maskformer_ext.ops.support import library


def _fact(section: Section, name: str) -> Fact:
    (found,) = (fact for fact in section.facts if fact.name == name)
    return found


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in machine.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def _keep(lines: list[str], line: str, style: str | None) -> None:
    lines.append(line)


@pytest.mark.skipif(library.CPU_ERROR is not None, reason="without the native library something does not work")
def test_a_sound_installation_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([f"json={tmp_path / 'report.json'}"]) == 0
    told = capsys.readouterr().out
    assert "Everything that was looked at works." in told and "FAILS" not in told
    assert told.splitlines()[-1] == f"{tmp_path / 'report.json'}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["fine"] is True
    assert set(report["self-test of ops (cpu)"]) == {op.name for op in (*OPS, *NUMPY_OPS)}
    torch_told = report["installed"]["torch"]
    assert torch_told["state"] == "ok" and torch_told["value"].startswith(torch.__version__.partition("+")[0])
    assert report["kernels"]["CPU library"]["value"].startswith("loads, ")
    for fact in report["self-test of ops (cpu)"].values():
        assert fact["state"] == "ok" and " ms" in fact["value"]


def test_long_lines_go_on_below_themselves_on_a_terminal(monkeypatch) -> None:
    section = Section("optional packages")
    section.add("train", "timm 1.0.31, " * 6 + "rich 15.0.0")
    for columns, is_terminal, count in ((50, True, 4), (200, True, 2), (50, False, 2), (20, True, 2)):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(doctor.sys, "stdout", SimpleNamespace(isatty=lambda shown=is_terminal: shown))
        lines: list[str] = []
        doctor._show(section, functools.partial(_keep, lines))
        monkeypatch.undo()
        assert len(lines) == 1 + count
        assert count == 2 or (max(map(len, lines)) <= 50 and lines[-1].startswith(" " * 15 + "timm"))


def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.main(["--json", "self_test=false"])
    report = json.loads(capsys.readouterr().out)
    assert report["fine"] is (status == 0) and {"installed", "machine", "kernels", "variables"} <= report.keys()


def test_every_op_has_a_call() -> None:
    assert list(op_calls.op_calls()) == [op.name for op in OPS], "one call per op, in the catalog's order"


@pytest.mark.parametrize("kind", ["wrong", "raises", "shape"])
def test_an_op_that_differs_from_its_reference_is_named(kind: str, monkeypatch, capsys) -> None:
    def broken(mask_logits: torch.Tensor, **rest: Any) -> torch.Tensor:
        result = right.function(mask_logits, **rest)
        if mask_logits.dtype != torch.float16:
            return result
        if kind == "raises":
            raise RuntimeError("no such kernel")
        return result * 1.1 if kind == "wrong" else result[:-1]

    right = op_calls.op_calls()["dice_loss"]
    monkeypatch.setattr(self_test, "op_calls", lambda: {"dice_loss": replace(right, function=broken)})
    monkeypatch.setattr(self_test, "OPS", [op for op in OPS if op.name == "dice_loss"])
    fact = _fact(self_test.check_ops("cpu"), "dice_loss")
    told = {
        "wrong": "e-01 from the reference",
        "raises": "RuntimeError: no such kernel",
        "shape": "inf from the reference",
    }
    assert fact.state == TROUBLE and fact.value.startswith("float16: ") and fact.value.endswith(told[kind])
    if library.CPU_ERROR is None:
        assert doctor.main([]) == 1
        assert "dice_loss fails: build the kernels again with `make build`" in capsys.readouterr().out


def test_a_missing_library_is_trouble(monkeypatch, capsys) -> None:
    monkeypatch.setattr(library, "CPU_ERROR", "_ops_cpu.so does not exist")
    assert doctor.main([]) == 1
    told = capsys.readouterr().out
    assert "CPU library fails: make build (or: pip install" in told and "self-test" not in told


def test_ops_that_the_library_lacks_are_named(monkeypatch) -> None:
    monkeypatch.setattr(library, "CPU_ERROR", None)
    monkeypatch.setattr(library, "_OUTDATED", {"mask_dot"})
    fact = _fact(kernels.look_at_kernels()[0], "CPU library")
    assert fact.state == TROUBLE and fact.value == "was built before mask_dot"


def test_a_missing_package_is_a_note_with_what_to_install(monkeypatch) -> None:
    find = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in ("av", "rich") else find(name))
    _, optional = packages.look_at_packages()
    video, train = _fact(optional, "video"), _fact(optional, "train")
    assert (video.state, video.value, video.remedy) == (NOTE, "lacks av", "pip install 'maskformer-ext[video]'")
    assert train.state == NOTE and train.value.startswith("lacks rich; has torchvision ")


def test_a_package_is_not_blamed_for_another_that_is_missing(monkeypatch) -> None:
    find, imported = packages.find_spec, importlib.import_module

    def without_pillow(name: str) -> Any:
        if name in ("PIL", "torchvision"):
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return imported(name)

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "PIL" else find(name))
    monkeypatch.setattr(packages.importlib, "import_module", without_pillow)
    fact = _fact(packages.look_at_packages()[1], "train")
    assert fact.state == NOTE and fact.value.startswith("lacks PIL; has torchvision ")
    assert fact.remedy == "pip install 'maskformer-ext[train]'"


def test_a_package_that_does_not_import_is_trouble(monkeypatch) -> None:
    imported = importlib.import_module

    def strange(name: str) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return imported(name)

    monkeypatch.setattr(packages.importlib, "import_module", strange)
    fact = _fact(packages.look_at_packages()[1], "train")
    assert fact.state == TROUBLE and "does not import: RuntimeError: operator torchvision::nms" in fact.value
    assert fact.remedy.startswith("pip install --force-reinstall --no-deps torchvision")


def test_an_old_torch_is_trouble(monkeypatch) -> None:
    monkeypatch.setattr(packages.metadata, "version", lambda name: "2.9.1")
    fact = _fact(packages.look_at_packages()[0], "torch")
    assert (fact.state, fact.remedy) == (TROUBLE, "pip install 'torch>=2.11'")


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        (None, ""),
        ("no kernel image is available for execution on the device", "make cuda, which compiles for every GPU"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the NVIDIA driver"),
    ],
)
def test_a_gpu_is_served_or_it_is_said_why_not(problem: str | None, remedy: str, monkeypatch) -> None:
    found = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, total_memory=80e9)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(library, "CUDA_ERROR", None)
    monkeypatch.setattr(library, "_cuda_problem", lambda index: problem)
    section, served = kernels.look_at_kernels()
    fact = _fact(section, "GPU 0")
    assert fact.value.startswith("NVIDIA H100, sm_90, 80 GB") and fact.remedy == remedy
    assert (fact.state, served) == ((OK, [0]) if problem is None else (TROUBLE, []))


def test_a_gpu_without_the_cuda_library_is_trouble(monkeypatch) -> None:
    found = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, total_memory=80e9)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(library, "CUDA_ERROR", "_ops_cuda.so does not exist")
    section, served = kernels.look_at_kernels()
    assert _fact(section, "CUDA library").state == TROUBLE and "make build" in _fact(section, "CUDA library").remedy
    assert _fact(section, "GPU 0").state == NOTE and served == []


@pytest.mark.parametrize(("cuda", "remedy"), [("13.0", "update the driver, or install a torch"), (None, "pip install")])
def test_a_driver_that_torch_does_not_use_is_trouble(cuda: str | None, remedy: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "_driver", lambda: "470.57.02")
    monkeypatch.setattr(kernels, "_reason", lambda: "the driver is too old")
    fact = _fact(kernels.look_at_kernels()[0], "GPU")
    assert fact.state == TROUBLE and "470.57.02" in fact.value and fact.remedy.startswith(remedy)


def test_variables_are_explained(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MASKFORMER_EXT_REFRENCE", "1")
    monkeypatch.setenv("MASKFORMER_EXT_REFERENCE", "1")
    monkeypatch.setenv("MASKFORMER_EXT_CPU", "sse4")
    monkeypatch.setenv("MASKFORMER_EXT_CHECKS", "1")
    monkeypatch.setenv("MASKFORMER_EXT_DATA", f"{tmp_path}/nowhere")
    section = machine.look_at_variables()
    mistyped = _fact(section, "MASKFORMER_EXT_REFRENCE")
    assert (mistyped.state, mistyped.remedy) == (NOTE, "did you mean MASKFORMER_EXT_REFERENCE?")
    assert _fact(section, "MASKFORMER_EXT_REFERENCE").remedy == "unset MASKFORMER_EXT_REFERENCE to run the kernels"
    assert _fact(section, "MASKFORMER_EXT_DATA").state == TROUBLE
    unknown = _fact(section, "MASKFORMER_EXT_CPU")
    assert (unknown.state, unknown.value) == (NOTE, "sse4 (has no effect)")
    assert unknown.remedy == "give baseline, avx2 or avx512"
    assert _fact(section, "MASKFORMER_EXT_CHECKS").state == OK


def test_few_threads_are_noted(monkeypatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fact = _fact(machine.look_at_machine(), "threads")
    assert (fact.state, fact.remedy) == (NOTE, "unset OMP_NUM_THREADS to use all cores")


def test_a_small_model_runs_or_says_what_it_lacks(monkeypatch) -> None:
    assert _fact(self_test.check_model(), "segment").state == OK

    def without_timm(config: object) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr(models, "build_model", without_timm)
    lacking = _fact(self_test.check_model(), "segment")
    assert lacking.state == NOTE and lacking.remedy.endswith("pip install 'maskformer-ext[train]'")
