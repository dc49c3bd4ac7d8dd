"""The model that the page shows: loaded once, run on one image at a time, and described for the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import choose_task, possible_tasks
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import printable
from maskformer_ext.inference.programs.exported_model import ExportedModel
from maskformer_ext.inference.programs.loading import load_for_inference
from maskformer_ext.inference.programs.metadata import is_program
from maskformer_ext.inference.results import Result
from maskformer_ext.inference.seen_image import SeenImage, see

_SETTINGS = ("object_mask_threshold", "overlap_threshold", "mask_threshold", "top_k", "semantic", "resize")


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Attributes:
        upload_mb: largest file, in megabytes.
        frames: of a video that are looked at, from its beginning.
    """

    upload_mb: int = 200
    frames: int = 100


class DemoModel:
    """A model, and the tasks that it can do.

    Args:
        model: a ``MaskFormer`` or ``PerPixelBaseline`` on its device, or an ``ExportedModel``.
        config: the configuration that its weights came with.
        info: its classes.
        name: what the page calls it.
        task: that the page begins with; None: what the model was trained for.

    Attributes:
        runs: how often the network was run.

    Raises:
        UserError: if the model cannot do the task.
    """

    def __init__(
        self, model: nn.Module, config: Config, info: DatasetInfo, *, name: str, task: str | None = None
    ) -> None:
        self.model, self.info, self.name = model, info, name
        self.config = replace(config, inference=replace(config.inference, tta=False))  # one view, which is run once
        architecture, things = config.model.architecture, bool(info.thing_classes)
        self.task = choose_task(task, architecture, things, trained=config.data.task)
        possible = possible_tasks(config.data.task, architecture, things)
        self.tasks = possible if self.task in possible else [*possible, self.task]
        self.has_queries = architecture == "maskformer"
        self.device = model.device if isinstance(model, ExportedModel) else next(model.parameters()).device
        self.runs = 0
        self.lock = threading.Lock()  # one run or reduction at a time: each uses all cores
        self._kept: list[tuple[SeenImage, tuple[Any, ...], Result, float]] = []

    def see(self, pixels: Tensor) -> tuple[SeenImage, float]:
        """Run the network on an image (3, H, W) uint8; return what it said and the milliseconds that it took."""
        with self.lock:
            start = time.perf_counter()
            seen = see(self.model, pixels, self.config.inference)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.runs += 1
            return seen, 1000 * (time.perf_counter() - start)

    def reduce(
        self, seen: SeenImage, task: str, options: Mapping[str, Any], size: tuple[int, int] | None = None
    ) -> tuple[Result, float]:
        """Reduce what the network said of an image; the newest results are kept.

        Args:
            seen: what it said.
            task: what to do.
            options: of the task.
            size: height and width of the result; None: those of the image.

        Returns:
            The result, with the model's classes, and the milliseconds that the reduction took.
        """
        asked = (task, tuple(sorted(options.items())), size)
        with self.lock:
            for own, key, result, milliseconds in self._kept:
                if own is seen and key == asked:
                    return result, milliseconds
            start = time.perf_counter()
            result = seen.segment(task, size=size, thing_classes=self.info.thing_classes or None, **options)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            milliseconds = 1000 * (time.perf_counter() - start)
            result = result.with_context(info=self.info)
            self._kept = [*self._kept[-1:], (seen, asked, result, milliseconds)]
            return result, milliseconds

    def describe(self, limits: Limits) -> dict[str, Any]:
        """Return what the page must know of the model."""
        settings = self.config.inference
        return {
            "name": self.name,
            "dataset": self.info.name,
            "architecture": self.config.model.architecture,
            "backbone": self.config.model.backbone,
            "device": str(self.device),
            "tasks": self.tasks,
            "task": self.task,
            "queries": self.has_queries,
            "classes": list(self.info.classes),
            "colors": [list(color) for color in self.info.colors],
            "things": list(self.info.thing_classes),
            "settings": {key: getattr(settings, key) for key in _SETTINGS},
            "upload_mb": limits.upload_mb,
            "frames": limits.frames,
        }


def load_demo_model(
    checkpoint: str, *, task: str | None = None, overrides: Sequence[str] = (), device: str | None = "cpu"
) -> DemoModel:
    """Load a checkpoint for the page.

    Args:
        checkpoint: whatever `load_for_inference` reads.
        task: that the page begins with; None: what the model was trained for.
        overrides: ``key=value`` for the configuration of the checkpoint.
        device: where the model goes; None: as in `load_for_inference`.

    Raises:
        UserError: if the checkpoint cannot be read or its model cannot do the task.
    """
    model, config, info = load_for_inference(checkpoint, device)
    return DemoModel(model, override_checkpoint(config, overrides), info, name=_run_name(checkpoint), task=task)


def _run_name(checkpoint: str) -> str:
    """Return what a checkpoint is best called: its folder or run, the exported file, or its hub id."""
    path = Path(checkpoint).expanduser()
    if not path.exists():
        return printable(checkpoint)
    path = path.resolve()
    if is_program(path):
        return printable(path.name)
    folder = path.parent if path.is_file() else path
    return printable(folder.parent.parent.name if folder.parent.name == "checkpoints" else folder.name)
