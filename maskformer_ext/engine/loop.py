"""The training loop: one optimiser step after another, and what is due between them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.checkpoints.runs import find_checkpoint
from maskformer_ext.config import Config
from maskformer_ext.config.load import save_config
from maskformer_ext.data.build import build_loader
from maskformer_ext.data.types import Batch
from maskformer_ext.engine.distributed import (
    StopVote,
    explain_lost_processes,
    mean_over_processes,
    start_processes,
    step_seed,
    stop_processes,
    union_over_processes,
)
from maskformer_ext.engine.monitor import BufferGuard, StepMonitor
from maskformer_ext.engine.optimizer import clip_grad_norm
from maskformer_ext.engine.progress import Clock, History, Progress, memory_gib
from maskformer_ext.engine.results import evaluate_run, write_results
from maskformer_ext.engine.schedule import learning_rate_factor, set_learning_rate
from maskformer_ext.engine.setup import Setup, build_setup
from maskformer_ext.engine.signals import StopSignals, TrainingInterrupted
from maskformer_ext.errors import UserError
from maskformer_ext.files import make_folder
from maskformer_ext.inference.allocator import keep_freed_memory

_SMALLEST_LOSS_SCALE = 2.0**-10


def train(config: Config) -> dict[str, Any]:
    """Train a model, score it, and write everything below ``config.output_dir``.

    Args:
        config: the complete configuration.

    Returns:
        What ``metrics.json`` holds: the scores of the final evaluation, "untrained", "training".

    Raises:
        UserError: for anything that the user can put right, and where another process of the job has ended.
        TrainingInterrupted: after Ctrl-C or SIGTERM, once a checkpoint has been written.
    """
    keep_freed_memory()
    accelerator = start_processes()
    with StopSignals() as signals, explain_lost_processes(lambda: _how_to_go_on(config, accelerator.is_main_process)):
        metrics = run(build_setup(config, accelerator), signals)
    stop_processes()
    return metrics


def run(setup: Setup, signals: StopSignals) -> dict[str, Any]:
    """Do the steps that are left of a run, and everything that is due between and after them."""
    config, options, device = setup.config, setup.config.train, setup.device
    main, world = setup.accelerator.is_main_process, setup.accelerator.num_processes
    if main:
        make_folder(setup.output_dir)
        save_config(config, setup.output_dir / "config.yaml")
    with (
        contextlib.closing(Progress(options.max_iters, enabled=main)) as progress,
        contextlib.closing(History(setup.output_dir, setup.iteration, enabled=main)) as history,
    ):
        progress.note(setup.describe())
        if config.eval_untrained and setup.iteration == 0:
            setup.untrained = evaluate_run(setup, 0, history, progress, signals)
        monitor = StepMonitor(options.max_bad_steps, bad_steps=setup.bad_steps)
        guard = BufferGuard(setup.model)
        trained = [parameter for parameter in setup.model.parameters() if parameter.requires_grad]
        rank, iteration, stop = setup.accelerator.process_index, setup.iteration, StopVote.NONE
        opened = {} if setup.train_set is None else {"dataset": setup.train_set}  # some take minutes to open
        loader = build_loader(config, "train", rank=rank, world=world, start=iteration, **opened)
        batches = iter(loader)
        clock = Clock(setup.seconds)
        vote = StopVote(world, lambda: _wish(signals, clock, options.max_minutes))
        setup.parallel.train()

        while iteration < options.max_iters and not stop:
            factor = learning_rate_factor(iteration, options.max_iters, config.schedule)
            set_learning_rate(setup.optimizer, factor)
            iteration += 1
            names, values = add_gradients(setup, batches, iteration, vote, clock)
            norm = optimizer_step(setup, trained)
            if setup.average:
                setup.average.update(iteration - 1)
            monitor.record(iteration, names, {**values, "grad_norm": norm})
            clock.step(options.batch_size)
            progress.advance(iteration)

            last = iteration == options.max_iters
            log = last or iteration % options.log_period == 0
            score = not last and _is_due(iteration, options.eval_period)
            save = last or score or _is_due(iteration, options.checkpoint_period)
            if device.type != "cpu" and not (log or save):
                continue  # the host waits for the GPU below only
            guard.check(bad=monitor.check())
            stop = vote.read()
            if log:
                rates = clock.read()
                losses = mean_over_processes(monitor.mean(), device)
                if (invalid := losses.pop("invalid_targets")) > 0:
                    progress.note(_describe_invalid(invalid))
                shown = losses | rates | {"lr": config.optimizer.lr * factor, "memory_gib": memory_gib(device)}
                left = (options.max_iters - iteration) * options.batch_size / rates["images_per_second"]
                if options.max_minutes:
                    left = min(left, 60 * options.max_minutes - clock.seconds)
                progress.show(iteration, shown, left)
                history.add(iteration, "train", {**shown, "bad_steps": monitor.bad_steps, "seconds": clock.seconds})
                _check_loss_scale(setup, iteration)
            if save or stop:
                setup.save(iteration, clock.seconds, monitor.bad_steps)
            if score and not stop:
                evaluate_run(setup, iteration, history, progress, signals)
                setup.parallel.train()
                clock.reset()

        if stop == StopVote.INTERRUPTED:
            raise TrainingInterrupted(iteration, setup.output_dir, signals.received or signal.SIGTERM)
        if stop == StopVote.OVER:
            progress.note(f"train.max_minutes={options.max_minutes:g} are over after {iteration} iterations")
        training = {
            "iterations": iteration,
            "seconds": clock.seconds,
            "images_per_second": clock.images_per_second,
            "bad_steps": monitor.bad_steps,
            "skipped_images": len(union_over_processes(loader.skipped)),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores",
            "processes": world,
        }
        batches.close()  # ends the worker processes, whose memory and cores the evaluation can use
        return write_results(setup, iteration, training, history, progress, signals)


def add_gradients(
    setup: Setup, batches: Generator[Batch, None, None], iteration: int, vote: StopVote, clock: Clock
) -> tuple[list[str], dict[str, Tensor]]:
    """Run the network forward and backward over the micro-batches of one optimiser step.

    Returns:
        The names of the images, and values by name: the weighted total ("loss") and every loss, averaged over the
        micro-batches. "invalid_targets" is their number in all of them.
    """
    accelerator, steps = setup.accelerator, setup.config.train.accumulation_steps
    memory_format = torch.channels_last if setup.config.train.channels_last else torch.contiguous_format
    names: list[str] = []
    sums: dict[str, Tensor] = {}
    for micro_step in range(steps):
        batch = _next_batch(setup, batches, clock)
        names += batch.names
        torch.manual_seed(step_seed(setup.config.seed, iteration, micro_step, accelerator.process_index))
        num_masks = vote.num_masks(batch.targets.num_segments.sum())
        waits = micro_step < steps - 1  # gradients are exchanged with the last micro-batch
        with accelerator.no_sync(setup.parallel) if waits else contextlib.nullcontext():
            with setup.autocast():
                output = setup.parallel(batch.normalized(memory_format))
                total, losses, stats = setup.criterion(output, batch.targets, num_masks=num_masks)
            setup.scaler.scale(total / steps).backward()
        parts = {key: value.detach() / steps for key, value in {"loss": total, **losses}.items()}
        for key, part in {**parts, "invalid_targets": stats["invalid_targets"]}.items():
            sums[key] = sums[key] + part if key in sums else part
    return names, sums


def optimizer_step(setup: Setup, parameters: list[nn.Parameter]) -> Tensor:
    """Clip the gradients and change the weights, unless a gradient is not finite (decided on the device).

    Returns:
        The L2 norm of all gradients together, before clipping.
    """
    scaler, optimizer = setup.scaler, setup.optimizer
    scaler.unscale_(optimizer)
    norm = clip_grad_norm(parameters, setup.config.optimizer.clip_norm)
    scaler.step(optimizer)
    if setup.config.train.precision == "fp16":
        scaler.update()
        norm = torch.nan_to_num(norm, nan=0.0, posinf=0.0)  # an overflow is no fault: the loss scale has been lowered
    else:
        scaler.update(new_scale=1.0)
    optimizer.zero_grad(set_to_none=True)
    return norm


def _next_batch(setup: Setup, batches: Generator[Batch, None, None], clock: Clock) -> Batch:
    """Wait for a batch and start its way to the device."""
    started = time.monotonic()
    try:
        batch = next(batches)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that reads images ended unexpectedly, often for want of memory (lower data.num_workers): "
            f"{str(error).splitlines()[0]}"
        ) from error
    clock.waited(time.monotonic() - started)
    return batch.to(setup.device, non_blocking=True)


def _check_loss_scale(setup: Setup, iteration: int) -> None:
    if setup.config.train.precision == "fp16" and setup.scaler.get_scale() < _SMALLEST_LOSS_SCALE:
        raise UserError(
            f"step {iteration}: the gradients overflow in fp16 at any scale of the loss: use train.precision=bf16"
        )


def _how_to_go_on(config: Config, main: bool) -> str:
    """Return how to take up the run; only the main process knows the checkpoints for sure."""
    checkpoint = find_checkpoint(config.output_dir) if main else None
    if main and checkpoint is None:
        return "no checkpoint has been written yet: start the same command again"
    return f"go on from {checkpoint or 'the last checkpoint'} with the same command and resume=auto"


def _describe_invalid(number: float) -> str:
    return (
        f"{number:.3g} segments or pixels per step had a label or an id out of range and counted as void: "
        "MASKFORMER_EXT_CHECKS=1 stops at the first and names it"
    )


def _wish(signals: StopSignals, clock: Clock, max_minutes: float) -> int:
    if signals.received:
        return StopVote.INTERRUPTED
    return StopVote.OVER if 0 < 60 * max_minutes <= clock.seconds else StopVote.NONE


def _is_due(iteration: int, period: int) -> bool:
    return period > 0 and iteration % period == 0
