"""What every op of the list must have, and what of it is missing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from maskformer_ext import ops
from maskformer_ext.ops import catalog
from maskformer_ext.ops.support import library

ROOT = Path(__file__).resolve().parents[2]


def missing_parts(op: catalog.Op) -> list[str]:
    """Return the parts that an op of tensors lacks, each as a place and what must be there."""
    return [*_files(op), *_functions(op), *_native_ops(op), *_samples(op), *_pages(op)]


def missing_parts_of_numpy(op: catalog.Op) -> list[str]:
    """Return the parts that an op of NumPy arrays lacks."""
    places = [f"maskformer_ext/ops/{op.name}.py", f"python_tests/ops/test_{op.name}.py", f"csrc/{op.kernels}"]
    return [*(place for place in places if not (ROOT / place).exists()), *_functions(op), *_pages(op)]


def _files(op: catalog.Op) -> Iterator[str]:
    folders = [ROOT / "csrc" / name for name in dict.fromkeys((op.name, op.kernels))]
    if not any((folder / f"{folder.name}.cpp").is_file() for folder in folders):
        yield f"csrc/{op.kernels}/{op.kernels}.cpp: the CPU kernel"
    bindings = [f"csrc/{op.name}/binding.cpp", *([f"csrc/{op.name}/binding_cuda.cpp"] if op.cuda else [])]
    others = ["maskformer_ext/ops/{}.py", "python_tests/ops/test_{}.py", "benchmarks/bench_{}.py"]
    for place in (*bindings, *(pattern.format(op.name) for pattern in others)):
        if not (ROOT / place).is_file():
            yield place
    if op.cuda and not any(any((ROOT / "csrc" / name).glob("*.cu")) for name in (op.name, op.kernels)):
        yield f"csrc/{op.name}/{op.name}.cu: the CUDA kernel"
    tests = [path.read_text() for path in (ROOT / "python_tests" / "ops").glob(f"test_{op.name}*.py")]
    if tests and not any(re.search(r"^def test_\w+\(\s*kernels\b", text, re.MULTILINE) for text in tests):
        yield f"python_tests/ops/test_{op.name}.py: a test that takes the fixture `kernels`"
    bench = ROOT / "benchmarks" / f"bench_{op.name}.py"
    for constant, meaning in (("SMALL", "the sizes of a small case"), ("ON_GPU", "the cases of a GPU")):
        if bench.is_file() and not re.search(rf"^{constant} = ", bench.read_text(), re.MULTILINE):
            yield f"benchmarks/bench_{op.name}.py: {constant}, {meaning}"


def _functions(op: catalog.Op) -> Iterator[str]:
    for name in op.functions:
        function = getattr(ops, name, None)
        if name not in ops.__all__ or not callable(function):
            yield f"maskformer_ext/ops/__init__.py: {name} is imported and is in __all__"
            continue
        docstring = function.__doc__ or ""
        for section in ("Args:", "Returns:"):
            if section not in docstring:
                yield f"maskformer_ext/ops/{op.name}.py: the docstring of {name} has a section {section}"


def _native_ops(op: catalog.Op) -> Iterator[str]:
    if library.CPU_ERROR is not None:
        return
    for name in op.native:
        if name not in library._KERNELS["cpu"]:
            yield f"csrc/{op.name}/binding.cpp: {name} is registered (and the library built)"
        elif not torch._C._dispatch_has_kernel_for_dispatch_key(f"maskformer_ext::{name}", "Meta"):
            yield f"maskformer_ext/ops/{op.name}.py: register({name!r}, fake=...)"


def _samples(op: catalog.Op) -> Iterator[str]:
    place = f"python_tests/ops/op_samples/{op.name}.py"
    if not (ROOT / place).is_file():
        yield place
        return
    module = importlib.import_module("op_samples")
    called = {sample.function.__name__ for sample in module.samples(op)}
    given = {name for name, calls in module.native_calls(op).items() if calls}
    for name in {*op.functions} - called:
        yield f"{place}: samples() has a call of {name}"
    for name in {*op.native} - given:
        yield f"{place}: native_calls() has arguments of {name}"


def _pages(op: catalog.Op) -> Iterator[str]:
    rows = [line for line in (ROOT / "docs/kernels/README.md").read_text().splitlines() if line.startswith("|")]
    if not any(f"`{op.name}`" in row.split("|")[1] for row in rows):
        yield f"docs/kernels/README.md: a row of `{op.name}`"
    readme = (ROOT / "README.md").read_text()
    for name in op.functions:
        if f"`{name}`" not in readme:
            yield f"README.md: `{name}` in the table of ops"


def beside_the_list() -> list[str]:
    """Return what is registered, lies in a folder of ops or is re-exported, and is in no line of the list."""
    names = {op.name for op in (*catalog.OPS, *catalog.NUMPY_OPS)}
    functions = {name for op in (*catalog.OPS, *catalog.NUMPY_OPS) for name in op.functions}
    native = {name for op in catalog.OPS for name in op.native}
    found = [f"torch.ops.maskformer_ext.{name}" for name in sorted(library._KERNELS["cpu"] - native)]
    found += [f"csrc/{path.parent.name}" for path in ROOT.glob("csrc/*/binding.cpp") if path.parent.name not in names]
    modules = {path.stem for path in (ROOT / "maskformer_ext" / "ops").glob("*.py")} - {"__init__", *_NO_OPS}
    found += [f"maskformer_ext/ops/{name}.py" for name in sorted(modules - names)]
    exported = {name for name in ops.__all__ if name.islower()}
    found += [f"maskformer_ext.ops.{name}" for name in sorted(exported - functions)]
    samples = {path.stem for path in (ROOT / "python_tests" / "ops" / "op_samples").glob("*.py")} - {"__init__"}
    return found + [f"python_tests/ops/op_samples/{name}.py" for name in sorted(samples - names)]


_NO_OPS = {"catalog", "targets"}
