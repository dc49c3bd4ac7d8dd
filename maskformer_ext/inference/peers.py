"""The same weights in other runtimes: how long their network takes beside ours, and how much memory its process."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.checkpoints.models import MaskFormer, build_model, load_model
from maskformer_ext.checkpoints.pretrained import numbered_classes
from maskformer_ext.config import Config
from maskformer_ext.errors import UserError
from maskformer_ext.inference.network import network_input, run_network
from maskformer_ext.inference.programs.export import ExportRequest, export_model
from maskformer_ext.inference.programs.exported_model import ExportedModel

KINDS = ("maskformer-ext", "transformers", "onnxruntime", "openvino")
_PACKAGES = {
    "transformers": ("transformers",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
}
_TOLERANCE = 1e-2  # of the mean size of a mask logit
_MIB_OF_MAXRSS = 2**20 if sys.platform == "darwin" else 2**10  # Linux counts in KiB


def compare_peers(config: Config, size: tuple[int, int], repeats: int) -> list[dict[str, Any]]:
    """Measure a recipe's network with random weights in every runtime that is installed, on the CPU.

    Each runs in a process of its own, one after the other, on the same image.

    Args:
        config: the recipe.
        size: height and width of the image.
        repeats: timed runs after one that is not; the median counts.

    Returns:
        For each runtime "name", "seconds" of the network, "images_per_second" and "peak_mib" of its process. Instead of
        these "problem" where it cannot run, or computes something else.
    """
    torch.manual_seed(0)
    model = build_model(config).eval()
    config.model.num_classes = model.num_classes
    size = tuple(side + -side % max(1, config.model.size_divisibility) for side in size)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measure(name, model, config, Path(folder), size, repeats) for name in KINDS]
    own = rows[0].get("mean_logit")
    for row in rows[1:]:
        found = row.get("mean_logit")
        if own is not None and found is not None and abs(found - own) > _TOLERANCE * own:
            row.update(problem="computes something else")
    return rows


def _measure(
    name: str, model: Any, config: Config, folder: Path, size: tuple[int, int], repeats: int
) -> dict[str, Any]:
    missing = [package for package in _PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        return {"name": name, "problem": f"{missing[0]} is not installed"}
    try:
        source = _write(name, model, config, folder, size)
    except UserError as error:
        return {"name": name, "problem": str(error)}
    command = [sys.executable, "-m", __name__, name, str(source), *map(str, size), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"name": name, "problem": said[-1]}
    return {"name": name, **json.loads(done.stdout.splitlines()[-1])}


def _write(name: str, model: Any, config: Config, folder: Path, size: tuple[int, int]) -> Path:
    """Write the weights as a runtime reads them, once for those that read the same."""
    info = numbered_classes(model.num_classes)
    if name in ("maskformer-ext", "transformers"):
        layout = "native" if name == "maskformer-ext" else "hf"
        if layout == "hf" and not isinstance(model, MaskFormer):
            raise UserError("transformers has no per-pixel baselines")
        written: Path = model.save_pretrained(folder / layout, layout=layout, config=config, info=info)
        return written
    path = folder / "model.onnx"
    if not path.exists():
        export_model(model, config, info, path, ExportRequest(outputs=("queries",), size=size, batch=1, check=False))
    return path


def run_peer(name: str, source: str, size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Load a network and measure it in this process.

    Args:
        name: one of `KINDS`.
        source: what `compare_peers` wrote for it.
        size: height and width of the image.
        repeats: timed runs.
    """
    image = torch.randint(256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    call = _loaded(name, source, image)
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            masks = call()
            seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[1:])
    return {
        "seconds": median,
        "images_per_second": 1 / median,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB_OF_MAXRSS,
        "mean_logit": float(masks.float().abs().mean()),
    }


def _loaded(name: str, source: str, image: Tensor) -> Callable[[], Tensor]:
    if name == "maskformer-ext":
        model = load_model(source).eval()
        return lambda: run_network(model, image)[0].mask_logits
    if name == "transformers":
        from transformers import MaskFormerForInstanceSegmentation

        theirs: Any = MaskFormerForInstanceSegmentation.from_pretrained(source).eval()
        settings = load_model(source).config
        mean, std = torch.tensor(settings.pixel_mean), torch.tensor(settings.pixel_std)
        pixels = network_input(image, mean, std, settings.size_divisibility)
        mask = torch.ones((1, *pixels.shape[-2:]), dtype=torch.long)
        return lambda: theirs(pixel_values=pixels, pixel_mask=mask).masks_queries_logits
    program = ExportedModel(source, runtime=name, device="cpu")
    return lambda: program.run_queries(image)[0].mask_logits


def main(arguments: list[str]) -> None:
    """Measure one runtime and print what was found as JSON."""
    warnings.simplefilter("ignore")
    name, source, height, width, repeats = arguments
    print(json.dumps(run_peer(name, source, (int(height), int(width)), int(repeats))))


if __name__ == "__main__":
    main(sys.argv[1:])
