"""Everything that a training loop needs, built from a configuration or taken up from a checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskformer_ext.checkpoints.layouts.native import MODEL_FILE, assign_weights, read_weights
from maskformer_ext.checkpoints.models import Model, build_model, load_model
from maskformer_ext.checkpoints.runs import damage, find_checkpoint, resolve_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.loader import IterationBatches
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.average import WeightAverage
from maskformer_ext.engine.checkpoints import TRAINING_FILE, load_training_state, save_checkpoint
from maskformer_ext.engine.fitting import fit_to_data
from maskformer_ext.engine.network import settle_network
from maskformer_ext.engine.optimizer import build_optimizer, restore_optimizer, restore_scaler
from maskformer_ext.errors import UserError, why
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.weights import nonfinite_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

_PRECISION = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_RESUMED = {"optimizer", "scaler", "iteration", "seconds", "bad_steps", "untrained"}
_RUN_FILES = ("checkpoints", "history.jsonl", "metrics.json", "config.yaml", "tensorboard", "results.html")


@dataclass
class Setup:
    """The parts of a run.

    Attributes:
        config: with ``model.num_classes`` filled in.
        info: the classes of the data set.
        train_set: the images to train on, where they were opened already.
        notes: what was found in the data, one line each.
        val_set: the images that are evaluated.
        model: the network itself.
        parallel: the same, wrapped for several processes; this one is called in training.
        average: moving average of the weights, if asked for.
        iteration: optimiser steps done before this run.
        seconds: training time spent before this run.
        bad_steps: steps skipped before this run.
        untrained: scores before the first step, if asked for.
    """

    config: Config
    accelerator: Accelerator
    info: DatasetInfo
    val_set: Any
    model: nn.Module
    parallel: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None = None
    iteration: int = 0
    seconds: float = 0.0
    bad_steps: int = 0
    untrained: dict[str, Any] = field(default_factory=dict)
    train_set: Any = None
    notes: list[str] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def output_dir(self) -> Path:
        return Path(self.config.output_dir)

    @property
    def evaluated_model(self) -> nn.Module:
        """The weights that are scored and saved: the average where there is one."""
        return self.average.model if self.average else self.model

    def autocast(self) -> torch.autocast:
        """Return the context in which network and losses run."""
        dtype = _PRECISION[self.config.train.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def describe(self) -> str:
        """Return a few lines on what is trained on what."""
        config, options, processes = self.config, self.config.train, self.accelerator.num_processes
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        lines = [
            f"{config.model.architecture} with {config.model.backbone}, {parameters / 1e6:.1f} million parameters, "
            f"on {self.info.name} ({config.data.task}, {self.info.num_classes} classes)",
            f"{options.max_iters} iterations of {options.batch_size} images, {options.precision}, {self.device.type}, "
            f"{processes} process{'es' if processes > 1 else ''}, output in {self.output_dir}",
        ]
        if self.iteration:
            lines.append(f"going on after iteration {self.iteration}")
        lines += self.notes
        return "\n".join(lines)

    def save(self, iteration: int, seconds: float, bad_steps: int) -> None:
        """Write a checkpoint from the main process, and let the others wait for it."""
        if self.accelerator.is_main_process:
            self._save(iteration, seconds, bad_steps)
        self.accelerator.wait_for_everyone()

    def _save(self, iteration: int, seconds: float, bad_steps: int) -> None:
        training = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "weights": self.model.state_dict() if self.average else None,  # model.safetensors holds the average
            "seconds": seconds,
            "bad_steps": bad_steps,
            "untrained": self.untrained,
        }
        save_checkpoint(
            self.output_dir,
            iteration,
            model=self.evaluated_model,
            config=self.config,
            info=self.info,
            training=training,
            keep=self.config.train.keep_checkpoints,
        )


def build_setup(config: Config, accelerator: Accelerator) -> Setup:
    """Build data sets, model and optimizer, and take up a checkpoint if ``config.resume`` asks for it.

    Raises:
        UserError: if data, configuration and checkpoint do not fit together.
    """
    device = accelerator.device
    if config.train.precision == "fp16" and device.type == "cpu":
        raise UserError("train.precision=fp16 needs a GPU: use bf16 or fp32 on the CPU")
    if accelerator.is_main_process:
        _check_output(Path(config.output_dir))
    checkpoint = _checkpoint_to_resume(config) if accelerator.is_main_process else None
    IterationBatches(  # raises where a batch cannot be dealt out, before anything is read
        batch_size=config.train.batch_size,
        accumulation_steps=config.train.accumulation_steps,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        start=0,
        stop=config.train.max_iters,
    )
    config, note = settle_network(config, accelerator, checkpoint)
    val_set = build_dataset(config.data, "val")
    info = val_set.info
    fitted = fit_to_data(config, val_set, accelerator, checkpoint)
    config = fitted.config
    if config.model.num_classes not in (None, info.num_classes):
        raise UserError(
            f"model.num_classes is {config.model.num_classes}, but the data set {info.name} has {info.num_classes} "
            "classes: leave the key out"
        )
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=info.num_classes))

    torch.manual_seed(config.seed)
    model: Model
    if config.init_from and not checkpoint:
        model = load_model(config.init_from, config=config, reset_head=config.reset_head)
    else:
        model = build_model(config.model, pretrained_backbone=not checkpoint)  # a checkpoint holds the backbone too
    if not checkpoint and (problem := nonfinite_weights(model)):
        source = f"init_from={config.init_from}" if config.init_from else f"backbone {config.model.backbone_weights}"
        raise UserError(f"{source}: training cannot start from weights that are not finite: {problem}")
    weights = read_weights(checkpoint / MODEL_FILE)[0] if checkpoint else {}
    state = load_training_state(checkpoint) if checkpoint else {}
    if checkpoint:
        assign_weights(model, weights, checkpoint)
    model.to(device)
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    average = WeightAverage(model, config.train.ema_decay) if config.train.ema_decay else None
    if checkpoint and state.get("weights"):  # the file above holds the average
        assign_weights(model, state["weights"], checkpoint / TRAINING_FILE)
    if config.train.compile:
        model.compile()
    optimizer = build_optimizer(model, config.optimizer)
    fp16 = config.train.precision == "fp16"
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**16 if fp16 else 1.0)
    setup = Setup(
        config=config,
        accelerator=accelerator,
        info=info,
        val_set=val_set,
        model=model,
        parallel=accelerator.prepare_model(model),
        criterion=build_criterion(model, config.criterion).to(device),
        optimizer=optimizer,
        scaler=scaler,
        average=average,
        train_set=fitted.train_set,
        notes=[note, *fitted.notes] if note else fitted.notes,
    )
    _take_up(setup, state, checkpoint / TRAINING_FILE if checkpoint else "the checkpoint")
    if accelerator.is_main_process and not checkpoint:
        _move_aside(setup.output_dir)
    return setup


def _take_up(setup: Setup, state: dict[str, Any], source: Path | str) -> None:
    """Restore optimizer and counters; in a job of several processes the first one hands its state to the others."""
    if setup.accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        state = broadcast_object_list([state], from_process=0)[0]
        if setup.average:
            for value in setup.average.model.state_dict().values():
                torch.distributed.broadcast(value, src=0)
    if not state:
        return
    if missing := sorted(_RESUMED - state.keys()):
        raise UserError(f"{source} is not a training state of this program: it lacks {missing[0]}")
    restore_optimizer(setup.optimizer, state["optimizer"], source)
    restore_scaler(setup.scaler, state["scaler"], source)
    setup.iteration, setup.seconds = state["iteration"], state["seconds"]
    setup.bad_steps, setup.untrained = state["bad_steps"], state["untrained"]


def _checkpoint_to_resume(config: Config) -> Path | None:
    if config.resume == "none":
        return None
    if config.resume == "auto":
        return find_checkpoint(config.output_dir)
    checkpoint = resolve_checkpoint(config.resume).parent
    if problem := damage(checkpoint):
        raise UserError(f"checkpoint {checkpoint} is damaged: {problem}")
    return checkpoint


def _check_output(output_dir: Path) -> None:
    """Raise before the work begins if nothing can be written there; nothing is made."""
    place = output_dir.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"output_dir={output_dir} cannot be made: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"output_dir={output_dir} cannot be written: {place} is read-only, or belongs to somebody else")


def _move_aside(output_dir: Path) -> None:
    """Keep what an earlier run left in the folder, in a subfolder of its own."""
    if not (output_dir / "checkpoints").exists():
        return
    name = time.strftime("previous-%Y%m%d-%H%M%S")
    names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(2)))
    aside = next(path for path in (output_dir / name for name in names) if not path.exists())
    try:
        aside.mkdir()
        for path in [output_dir / file for file in _RUN_FILES]:
            if path.exists():
                path.rename(aside / path.name)
    except OSError as error:
        raise UserError(f"the earlier run in {output_dir} cannot be moved to {aside.name}: {why(error)}") from error
