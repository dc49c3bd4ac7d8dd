"""Run an exported file: ONNX in onnxruntime or OpenVINO, a program of torch.export in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.config.values import check_choice
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.inference.programs.quiet import quiet

RUNTIMES = {".onnx": ("onnxruntime", "openvino"), ".pt2": ("torch",)}
_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


class CannotRun(UserError):
    """A runtime fails at a program that others may run."""


Run: TypeAlias = Callable[[Tensor], list[Tensor]]
"""Takes (B, 3, H, W) uint8 images and returns the wanted results of a program."""


def choose_runtime(path: Path, runtime: str | None) -> str:
    """Return the runtime for a file: the named one, or the first that is installed.

    Raises:
        UserError: if the named one cannot run the file, or none is installed.
    """
    possible = RUNTIMES[path.suffix.lower()]
    if runtime is not None:
        check_choice("runtime", runtime, tuple(name for names in RUNTIMES.values() for name in names))
        if runtime not in possible:
            raise UserError(f"runtime={runtime} does not run {path.suffix} files: {' or '.join(possible)} does")
    for name in (runtime,) if runtime else possible:
        if name == "torch" or is_installed(name):
            return name
    package = runtime or possible[0]
    raise UserError(f"{printable(path)} needs the package {package}: pip install 'maskformer-ext[{_EXTRAS[package]}]'")


def is_installed(package: str) -> bool:
    """Return whether a runtime can be imported."""
    try:
        __import__(package)
    except ImportError:
        return False
    return True


def open_program(path: Path, outputs: Sequence[str], wanted: Sequence[str], runtime: str, device: str | None) -> Run:
    """Load a program so that nothing is computed but the wanted results.

    Args:
        path: of the file.
        outputs: names of all its results.
        wanted: names of those that are asked for.
        runtime: of `choose_runtime`.
        device: "cpu", "cuda", "cuda:1"; None: a GPU where the runtime knows one.

    Raises:
        UserError: if the file is damaged, or the device not available to the runtime.
    """
    load = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino, "torch": _open_torch}[runtime]
    try:
        with quiet():
            run = load(path, list(outputs), list(wanted), device)
    except UserError:
        raise
    except Exception as error:  # each runtime has classes of its own
        raise UserError(f"{printable(path)} cannot be loaded by {runtime}: {why(error)}") from error

    def run_or_say(images: Tensor) -> list[Tensor]:
        try:
            return run(images)
        except Exception as error:
            shape, reason = "x".join(map(str, images.shape)), " ".join(_said_last(error).split())
            raise CannotRun(f"{runtime} cannot run {printable(path)} on images {shape}: {reason:.300}") from error

    return run_or_say


def _said_last(error: Exception) -> str:
    """Return the reason that a runtime gives; OpenVINO first names lines of its own code."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from ")]
    return printable(" ".join(lines[-2:])) if lines else why(error)


def _open_onnxruntime(path: Path, outputs: list[str], wanted: list[str], device: str | None) -> Run:
    import onnxruntime

    options, once = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.log_severity_level = once.log_severity_level = 4  # fatal
    once.only_execute_path_to_fetches = True
    providers: list[Any] = ["CPUExecutionProvider"]
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    kind, _, number = (device or ("cuda" if has_gpu else "cpu")).partition(":")
    if kind == "cuda":
        if not has_gpu:
            raise UserError(
                f"device={device}: this onnxruntime has no CUDA: install onnxruntime-gpu, or give device=cpu"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    elif kind != "cpu":
        raise UserError(f"device={device}: onnxruntime runs on cpu or cuda here")
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> list[Tensor]:
        arrays = session.run(wanted, {name: images.cpu().contiguous().numpy()}, once)
        return [torch.from_numpy(array) for array in arrays]

    return run


def _open_openvino(path: Path, outputs: list[str], wanted: list[str], device: str | None) -> Run:
    import openvino

    if device not in (None, "cpu"):
        raise UserError(f"device={device}: openvino runs on the CPU here: device=cpu")
    core = openvino.Core()
    model = core.read_model(str(path))
    model = openvino.Model([model.output(name) for name in wanted], model.get_parameters())
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # some processors would compute in 16 bits
    compiled = core.compile_model(model, "CPU", exact)

    def run(images: Tensor) -> list[Tensor]:
        results = compiled([images.cpu().contiguous().numpy()])
        return [torch.from_numpy(np.array(results[place])) for place in range(len(wanted))]

    return run


def _open_torch(path: Path, outputs: list[str], wanted: list[str], device: str | None) -> Run:
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    program = torch.export.load(str(path))
    if place.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, place)
    module: Any = program.module()
    output = next(node for node in reversed(module.graph.nodes) if node.op == "output")
    kept = [value if name in wanted else None for name, value in zip(outputs, output.args[0], strict=True)]
    output.args = (tuple(kept),)
    module.graph.eliminate_dead_code()
    module.recompile()

    @torch.inference_mode()
    def run(images: Tensor) -> list[Tensor]:
        results = module(images.to(place))
        return [results[name] for name in wanted]

    return run
