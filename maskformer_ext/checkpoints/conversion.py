"""Convert the weights of a model from any layout to a new folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from maskformer_ext.checkpoints.models import load_model
from maskformer_ext.data.classes import read_classes_file, void_id
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.modeling.weights import nonfinite_weights


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        folder: that was made.
        summary: the model in words.
        problem: which weights are not finite, in words; None: all are finite.
    """

    folder: Path
    summary: str
    problem: str | None


def convert_model(
    source: str,
    folder: str | Path,
    *,
    layout: str = "native",
    config: str | None = None,
    classes: str | Path | None = None,
    num_classes: int | None = None,
    reset_head: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Read the weights of a whole model, check them, and write them to a new folder.

    Args:
        source: whatever `load_model` reads.
        folder: the new folder.
        layout: one of ``LAYOUTS``.
        config: the recipe that weights of the original were trained with.
        classes: a classes file; None: what is known of the classes.
        num_classes: K; None: that of the classes file, or of the weights.
        reset_head: start with a new classifier, random from seed 0.
        overwrite: replace an earlier folder of this kind.

    Raises:
        NoHead: if the weights are those of a backbone alone.
        UserError: if they cannot be read or written.
    """
    info = None if not classes else _read_classes(Path(classes).expanduser())
    num_classes = num_classes or (info.num_classes if info else None)
    torch.manual_seed(0)
    model = load_model(source, config=config, num_classes=num_classes, reset_head=reset_head)
    written = model.save_pretrained(folder, layout=layout, info=info, overwrite=overwrite)
    parameters = sum(value.numel() for value in model.parameters())
    summary = (
        f"{model.config.architecture} with {model.config.backbone}, {model.num_classes} classes, "
        f"{parameters / 1e6:.1f} million parameters"
    )
    return Conversion(written, summary, nonfinite_weights(model))


def _read_classes(path: Path) -> DatasetInfo:
    table = read_classes_file(path)
    void = 255 if table.ignore_label is None else void_id(table.ignore_label, len(table.classes))
    return DatasetInfo(path.stem, table.classes, table.colors, table.things, void)
