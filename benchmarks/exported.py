"""Exported programs against the network itself: `python -m benchmarks.exported [--recipe NAME] [--size 512]`.

The network has random weights. It is written as ONNX for any size, as ONNX for one size, and as .pt2 for any size.
Each file is opened by the runtimes that are installed. Classes are compared first, then `segment` runs in turns. The
table has seconds of processor time to write a file, its size, and the median time per image.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import machine
from maskformer_ext import build_model
from maskformer_ext.checkpoints.pretrained import numbered_classes
from maskformer_ext.config.load import load_config
from maskformer_ext.inference import ExportedModel, segment
from maskformer_ext.inference.programs.export import ExportRequest, export_model
from maskformer_ext.inference.programs.runtimes import is_installed

_CLASSES = 150
_LEAST_SAME = 0.999  # share of pixels that must have the network's class; near ties may fall otherwise


def write_programs(model: Any, recipe: Any, folder: Path, side: int) -> dict[str, str]:
    """Write the files, and return for each what it cost: processor time and size."""
    torch.manual_seed(0)
    kinds = {"any.onnx": None, "fixed.onnx": (side, side), "any.pt2": None}
    costs = {}
    for name, size in kinds.items():
        begun = time.process_time()
        request = ExportRequest("semantic", size=size, batch=None if size is None else 1, check=False)
        export_model(model, recipe, numbered_classes(_CLASSES), folder / name, request)
        spent = time.process_time() - begun
        costs[name] = f"{spent:.0f} s, {(folder / name).stat().st_size / 1e6:.0f} MB"
    return costs


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Run the calls in turns, and return the median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if turn:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="ade20k-150/maskformer_R50_bs16_160k")
    parser.add_argument("--size", type=int, default=512, help="height and width of the image")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*untrained")  # the weights are random on purpose
    recipe = load_config(given.recipe, [f"inference.min_size={given.size}"])
    model = build_model(recipe.model, num_classes=_CLASSES).eval()
    recipe.model = model.config
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, given.size, given.size), dtype=torch.uint8, generator=generator)
    options: dict[str, Any] = {"task": "semantic", "config": recipe.inference}
    with tempfile.TemporaryDirectory() as folder:
        costs = write_programs(model, recipe, Path(folder), given.size)
        calls: dict[str, Callable[[], Any]] = {"the network": functools.partial(segment, model, image, **options)}
        expected = segment(model, image, **options).class_map
        for name in costs:
            runtimes = ["torch"] if name.endswith(".pt2") else ["onnxruntime", "openvino"]
            for runtime in (one for one in runtimes if is_installed(one)):
                program = ExportedModel(Path(folder) / name, runtime=runtime)
                same = float((segment(program, image, **options).class_map == expected).float().mean())
                assert same >= _LEAST_SAME, f"{name} in {runtime}: {same:.4f} of the pixels have the network's class"
                calls[f"{name} in {runtime}"] = functools.partial(segment, program, image, **options)
        found = measure(calls, given.rounds)
    here = machine("cpu")
    print(f"{given.recipe}, {given.size}x{given.size}, {here['device']}, {here['threads']} threads\n")
    print("| what runs | written in, size | per image | against the network |\n|---|---|---|---|")
    for name, milliseconds in found.items():
        cost = costs.get(name.split(" in ")[0], "-")
        print(f"| {name} | {cost} | {milliseconds:.0f} ms | {found['the network'] / milliseconds:.2f}x |")


if __name__ == "__main__":
    main()
