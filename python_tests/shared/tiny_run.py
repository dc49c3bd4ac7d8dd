"""The output folder of a run, with the smallest model, for tests of commands."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint

INFO = DatasetInfo("painted", ("ground", "box", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=(1, 2))


def save_tiny_run(folder: Path, *, broken: str | None = None, **model: object) -> Path:
    """Save an untrained model of three classes, and return the folder.

    Args:
        folder: for the run.
        broken: the parameter that is not finite; None: all are.
        model: fields of the model's configuration.
    """
    config = Config(name="tiny")
    config.model = tiny_config(num_classes=len(INFO.classes))
    for key, value in model.items():
        setattr(config.model, key, value)
    torch.manual_seed(0)
    network = build_model(config.model)
    if broken is not None:
        network.get_parameter(broken).data[0] = float("nan")
    save_checkpoint(folder, 0, model=network, config=config, info=INFO, training={})
    return folder
