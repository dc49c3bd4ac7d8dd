"""Score the model of a checkpoint on the data set that its configuration names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskformer_ext.checkpoints.runs import resolve_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.config.load import override_checkpoint
from maskformer_ext.config.tasks import never_learnt
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.evaluation.run import evaluate, tasks_of
from maskformer_ext.evaluation.submission import FORMATS, SubmissionWriter, create_writer
from maskformer_ext.inference.programs.loading import load_for_inference


@dataclass(frozen=True)
class CheckpointEvaluation:
    """A model and the data set that it is scored on.

    Attributes:
        model: of the checkpoint.
        dataset: one split.
        config: of the checkpoint, with what the user changed.
        classes: names of the classes, in the order of their ids.
        writer: also writes the results, in a benchmark's format.
        doubt: which of the tasks the weights never learnt, in a sentence.
    """

    model: nn.Module
    dataset: Any
    config: Config
    classes: tuple[str, ...]
    writer: SubmissionWriter | None
    doubt: str | None

    def run(
        self, *, rank: int, world: int, limit: int | None, progress: Callable[[int, int], None] | None
    ) -> dict[str, Any]:
        """Score the model; arguments and result are those of `evaluation.run.evaluate`."""
        return evaluate(
            self.model,
            self.dataset,
            self.config,
            rank=rank,
            world=world,
            limit=limit,
            progress=progress,
            writer=self.writer,
        )


def load_evaluation(
    checkpoint: str,
    split: str,
    *,
    overrides: Sequence[str] = (),
    device: str | torch.device | None = None,
    runtime: str | None = None,
    submission: str | None = None,
    format: str | None = None,
) -> CheckpointEvaluation:
    """Load a checkpoint and the data set that it is scored on.

    Args:
        checkpoint: whatever `load_for_inference` reads.
        split: "train" or "val".
        overrides: ``key=value`` for the configuration of the checkpoint.
        device: where the model goes; None: the CPU, or where the runtime of a program likes best.
        runtime: of an exported program.
        submission: folder for the results as a benchmark takes them; None: they are not written.
        format: of these results, one of ``FORMATS``.

    Raises:
        UserError: if one of them cannot be read, or they have different classes.
    """
    model, config, info = load_for_inference(checkpoint, device, runtime=runtime)
    trained, config = config.data.task, override_checkpoint(config, overrides)
    dataset = build_dataset(config.data, split)
    if not info.name and info.num_classes == dataset.info.num_classes:
        info = dataset.info  # the weights say how many classes there are, not what they are called
    if dataset.info.classes != info.classes:
        raise UserError(
            f"the checkpoint knows the classes of {info.name} ({', '.join(info.classes[:5])}...), but the data set "
            f"{dataset.info.name} has others ({', '.join(dataset.info.classes[:5])}...): set data.name, or where they "
            "are the same under other names, name them with maskformer_ext.convert config=RECIPE or classes=FILE"
        )
    doubt = never_learnt(trained, tasks_of(config, dataset.info), bool(dataset.info.thing_classes))
    writer = _create_writer(submission, format, dataset.info)  # which knows the ids of its files
    return CheckpointEvaluation(model, dataset, config, info.classes, writer, doubt)


def default_output(checkpoint: str | Path) -> Path:
    """Return where the scores of a checkpoint go: into its run's folder, or else beside the weights."""
    folder = resolve_checkpoint(checkpoint).parent
    return (folder.parent.parent if folder.parent.name == "checkpoints" else folder) / "evaluation.json"


def _create_writer(folder: str | None, format: str | None, info: DatasetInfo) -> SubmissionWriter | None:
    if (folder is None) != (format is None):
        raise UserError(f"submission= and format= belong together: give a folder and one of {', '.join(FORMATS)}")
    return None if folder is None else create_writer(str(format), Path(folder).expanduser(), info)
