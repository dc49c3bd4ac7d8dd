"""What a run shows and logs."""

from __future__ import annotations

import json
import math
import sys

import pytest

from maskformer_ext.engine.progress import Clock, History, Progress, format_seconds, last_layer_losses, read_history

_VALUES = {
    "loss": 9.5,
    "loss_ce": 2.0,
    "loss_mask": 0.1,
    "loss_dice": 0.7,
    "lr": 1e-4,
    "images_per_second": 12.0,
    "data_share": 0.25,
    "memory_gib": 1.5,
}


def test_plain_lines_where_there_is_no_terminal(capsys):
    progress = Progress(100)
    progress.advance(20)
    progress.show(20, _VALUES, seconds_left=3723)
    progress.note("a note")
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    losses = " 20/100  loss 9.500 (ce 2.000  mask 0.100  dice 0.700)"
    assert lines == [f"{losses}  lr 1.0e-04  12.0 images/s  data 25%  1.5 GiB  left 1:02:03", "a note"]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    progress = Progress(100)
    progress.advance(20)
    progress.show(20, _VALUES, seconds_left=60)
    progress.note("a note with [brackets]")
    progress.describe("evaluating 1/2")
    progress.close()
    shown = capsys.readouterr().out
    assert "20/100" in shown and "a note with [brackets]" in shown


def test_other_processes_are_silent(capsys):
    progress = Progress(10, enabled=False)
    progress.show(1, _VALUES, seconds_left=1)
    progress.note("text")
    progress.close()
    assert capsys.readouterr().out == ""


def test_history_keeps_what_came_before_the_start_and_drops_the_rest(tmp_path):
    history = History(tmp_path)
    for iteration in (1, 2, 3):
        history.add(iteration, "train", {"loss": float(iteration), "bad": math.nan, "per_class": {}})
    history.close()
    with history.path.open("a") as file:
        file.write('{"iteration": 4, "lo')  # cut off by a crash
    assert [record["iteration"] for record in read_history(history.path)] == [1, 2, 3]
    resumed = History(tmp_path, start=2)
    resumed.add(3, "train", {"loss": 30.0})
    resumed.close()
    records = [json.loads(line) for line in history.path.read_text().splitlines()]
    assert records == [{"iteration": i, "kind": "train", "loss": loss} for i, loss in ((1, 1.0), (2, 2.0), (3, 30.0))]


def test_the_clock_counts_waiting_and_leaves_pauses_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("maskformer_ext.engine.progress.time.monotonic", lambda: now[0])
    clock = Clock(seconds_before=100.0)
    now[0] = 2.0
    clock.waited(0.5)
    clock.step(8)
    assert clock.read() == {"images_per_second": 4.0, "data_share": 0.25}
    now[0] = 10.0  # an evaluation
    clock.reset()
    now[0] = 12.0
    clock.step(4)
    assert clock.read()["images_per_second"] == 2.0
    assert clock.images_per_second == pytest.approx(12 / 4)
    assert clock.seconds == 112.0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3600, "1:00:00"), (-5, "0:00:00")])
def test_seconds_as_a_clock_shows_them(seconds, text):
    assert format_seconds(seconds) == text


def test_every_loss_of_the_last_layer_is_shown(capsys):
    losses = {"loss_ce": 2.0, "loss_box": 0.25, "loss_giou": 0.5, "loss_new": 0.125}
    losses |= {"loss_box_0": 9.0, "loss_new_12": 9.0}
    values = _VALUES | losses
    assert last_layer_losses(losses) == ["loss_ce", "loss_box", "loss_giou", "loss_new"]
    Progress(1000).show(20, values, 1.0)
    shown = capsys.readouterr().out
    assert "box 0.250  giou 0.500  new 0.125" in shown and "9.000" not in shown
