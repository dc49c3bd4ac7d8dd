"""Which network a run trains, told to all its processes: that of the recipe, or that of the weights it starts from."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.checkpoints.starting_network import adopt_network
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.config.load import load_config
from maskformer_ext.config.values import RATE
from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


def settle_network(config: Config, accelerator: Accelerator, checkpoint: Path | None) -> tuple[Config, str]:
    """Return the configuration with the network to train, and a sentence where it is not the recipe's.

    The first process reads the weights of ``init_from``. A run that is taken up keeps the network it began with.

    Args:
        config: of the run.
        accelerator: the processes.
        checkpoint: that the run is taken up from, in the first process; None: it starts.

    Raises:
        UserError: in every process, if the weights cannot be read or a given key contradicts them.
    """
    if not config.init_from:
        return replace(config, init_keep=[]), ""
    settled, note, fault = config, "", None
    if accelerator.is_main_process:
        try:
            settled, note = (_recorded(config, checkpoint), "") if checkpoint else adopt_network(config)
        except UserError as error:
            fault = str(error)
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        told = [fault, settled.model, settled.optimizer.lr, note]
        fault, model, rate, note = broadcast_object_list(told, from_process=0)
        settled = replace(config, model=model, optimizer=replace(config.optimizer, lr=rate))
    if fault is not None:
        raise UserError(fault)
    return replace(settled, init_keep=[]), note


def _recorded(config: Config, checkpoint: Path) -> Config:
    """Take the network and the learning rate that the run began with from its checkpoint, but for what is given."""
    recorded = load_config(checkpoint / "config.yaml")
    given = {
        field.name: getattr(config.model, field.name)
        for field in fields(ModelConfig)
        if f"model.{field.name}" in config.init_keep
    }
    model = replace(recorded.model, **given, num_classes=config.model.num_classes)
    rate = config.optimizer.lr if RATE in config.init_keep else recorded.optimizer.lr
    return replace(config, model=model, optimizer=replace(config.optimizer, lr=rate))
