"""One optimiser step reads no value, so that the host can be ahead of a GPU."""

from __future__ import annotations

import pytest
import torch
from no_waiting import NeverWaits
from runs import small_config, synthetic_loader
from typed import present

from maskformer_ext.engine import loop
from maskformer_ext.engine.distributed import StopVote, start_processes
from maskformer_ext.engine.monitor import StepMonitor
from maskformer_ext.engine.progress import Clock
from maskformer_ext.engine.setup import build_setup
from maskformer_ext.ops.support import value_checks


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reads_no_value(tmp_path, monkeypatch, precision: str) -> None:
    monkeypatch.setattr(value_checks, "may_read", lambda device: False)  # on the CPU it is free
    overrides = ["train.batch_size=4", "train.accumulation_steps=2", "train.ema_decay=0.9", "train.channels_last=true"]
    config = small_config(tmp_path, f"train.precision={precision}", *overrides)
    setup = build_setup(config, start_processes())
    setup.parallel.train()
    parameters = [parameter for parameter in setup.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    batches = (batch for batch in list(synthetic_loader(config, "train", rank=0, world=1, start=0)))
    monitor, vote, clock = StepMonitor(max_bad_steps=3), StopVote(1, lambda: StopVote.NONE), Clock()
    for iteration in (1, 2, 3):
        with NeverWaits("cpu") as watch:
            names, values = loop.add_gradients(setup, batches, iteration, vote, clock)
            norm = loop.optimizer_step(setup, parameters)
            present(setup.average).update(iteration)
            monitor.record(iteration, names, {**values, "grad_norm": norm})
    assert {"_fused_adamw_", "convolution_backward"} <= watch.seen
    assert not monitor.check() and monitor.mean()["invalid_targets"] == 0
    assert not any(torch.equal(old, new) for old, new in zip(before, parameters, strict=True) if old.dim() > 1)


def test_a_vote_travels_without_a_copy_from_the_host(monkeypatch) -> None:
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", sent.append)
    segments = torch.empty((), dtype=torch.int64, device="meta")
    vote = StopVote(2, lambda: StopVote.INTERRUPTED)
    with NeverWaits():
        assert vote.num_masks(segments).shape == ()
    assert [sums.shape for sums in sent] == [(3,)]
    vote = StopVote(2, lambda: StopVote.INTERRUPTED)
    vote.num_masks(torch.tensor(5))
    assert sent[1].tolist() == [5, 0, 1] and vote.read() == StopVote.INTERRUPTED


def test_targets_out_of_range_are_told(tmp_path, monkeypatch, capsys) -> None:
    """As on a GPU, where the criterion counts them instead of raising."""
    add_gradients = loop.add_gradients

    def with_invalid(*args):
        names, values = add_gradients(*args)
        return names, {**values, "invalid_targets": torch.tensor(7)}

    monkeypatch.setattr(loop, "add_gradients", with_invalid)
    monkeypatch.setattr(loop, "build_loader", synthetic_loader)
    loop.train(small_config(tmp_path, "train.max_iters=2"))
    told = [line for line in capsys.readouterr().out.splitlines() if "MASKFORMER_EXT_CHECKS=1" in line]
    assert len(told) == 2 and told[0].startswith("7 segments or pixels per step had a label or an id out of range")
