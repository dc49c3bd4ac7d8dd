"""The benchmark of loading measures every stage of the data set that it draws."""

from __future__ import annotations

import json

from benchmarks import loading
from maskformer_ext.prepare import main as prepare


def test_drawn_images_are_a_valid_coco_set(tmp_path, capsys):
    root = loading.draw_coco(tmp_path / "coco", count=3, size=(48, 64))
    assert prepare(["coco_panoptic", str(root), "split=train", "workers=0"]) == 0, capsys.readouterr()


def test_every_stage_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, "draw_coco", lambda root, draw=loading.draw_coco: draw(root, count=4, size=(48, 64)))
    arguments = ["--workers", "0", "--seconds", "0.1", "--batches", "2", "--size", "64"]
    record = loading.main([*arguments, "--json", str(tmp_path / "figures.json")])
    assert record["images_per_second"] > 0 and tuple(record["stages_cpu_ms"]) == loading.STAGES
    times = record["image_cpu_ms"]
    assert 0 < times["q1"] <= times["median"] <= times["q3"]
    assert json.loads((tmp_path / "figures.json").read_text()) == record
    output = capsys.readouterr().out
    assert "images: drawn, in COCO's size" in output and "images per CPU-second" in output


def test_real_examples_are_read_in_their_own_layout(data_dir, capsys):
    record = loading.main(["--root", str(data_dir / "coco_panoptic2"), "--batches", "1", "--seconds", "0"])
    assert record["images"] == "coco_panoptic2" and record["images_per_second"] is None
