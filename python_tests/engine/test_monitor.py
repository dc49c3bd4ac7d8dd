"""Steps that are not finite: counted, explained, undone."""

from __future__ import annotations

import math

import pytest
import torch
from typed import present

from maskformer_ext.engine.monitor import BufferGuard, StepMonitor
from maskformer_ext.errors import UserError


def _record(monitor, iteration, loss, **more):
    values = {"loss": loss, "loss_ce": loss, **more, "grad_norm": 1.0}
    monitor.record(iteration, [f"image{iteration}"], {key: torch.tensor(value) for key, value in values.items()})


def test_means_leave_bad_steps_out():
    monitor = StepMonitor(max_bad_steps=3)
    for iteration, loss in enumerate([1.0, math.nan, 3.0], start=1):
        _record(monitor, iteration, loss)
    assert monitor.check() is True
    assert monitor.check() is False
    assert monitor.mean()["loss"] == 2.0
    assert (monitor.bad_steps, monitor.bad_in_row) == (1, 0)
    assert math.isnan(monitor.mean()["loss"])


def test_bad_steps_in_a_row_end_the_training_with_step_layer_and_images():
    monitor = StepMonitor(max_bad_steps=2)
    _record(monitor, 1, math.nan, loss_mask_0=1.0)
    _record(monitor, 2, 1.0, loss_mask_0=1.0)
    _record(monitor, 3, math.inf, loss_mask_0=1.0)
    monitor.check()  # the good step in between starts the count anew
    _record(monitor, 4, math.nan, loss_mask_0=math.nan)
    with pytest.raises(UserError) as caught:
        monitor.check()
    text = str(caught.value)
    assert "step 4" in text and "image4" in text and "2 such steps in a row" in text
    assert "loss_ce (last decoder layer)" in text and "loss_mask (decoder layer 1)" in text


def test_a_gradient_that_is_not_finite_is_named():
    monitor = StepMonitor(max_bad_steps=1)
    monitor.record(7, ["a", "b"], {"loss": torch.tensor(1.0), "grad_norm": torch.tensor(math.inf)})
    with pytest.raises(UserError, match=r"step 7: the gradient is not finite for the images a, b"):
        monitor.check()


def test_running_statistics_survive_a_bad_step():
    model = torch.nn.BatchNorm1d(2)
    guard = BufferGuard(model)
    model(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    guard.check(bad=False)
    good = present(model.running_mean).clone()
    model(torch.full((2, 2), math.nan))
    assert not torch.isfinite(present(model.running_mean)).any()
    guard.check(bad=True)
    assert torch.equal(present(model.running_mean), good)
