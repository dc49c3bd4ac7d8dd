"""Bad input in a run: `data.on_error=skip` carries it to the end, other classes in a checkpoint stop it at once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import small_config

from maskformer_ext.engine import results
from maskformer_ext.engine.loop import train
from maskformer_ext.engine.progress import History
from maskformer_ext.errors import UserError


def test_a_run_ends_with_pictures_whatever_cannot_be_read(tmp_path: Path, caplog) -> None:
    generator, root = np.random.default_rng(0), tmp_path / "data"
    for split in ("train", "val"):
        for part, top in (("images", 255), ("labels", 2)):
            (root / split / part).mkdir(parents=True)
            for name in "abc":
                pixels = generator.integers(0, top, (64, 64), np.uint8)
                Image.fromarray(pixels).save(root / split / part / f"{name}.png")
        (root / split / "images" / "a.png").write_bytes(b"no image")
    (root / "classes.txt").write_text("sky\ntree")
    data = ["data.name=semantic_folder", f"data.root={root}", "data.on_error=skip", "train.max_iters=2"]
    metrics = train(small_config(tmp_path / "run", *data))
    assert (metrics["images"], metrics["skipped"], metrics["training"]["skipped_images"]) == (2, 1, 1)
    assert all(any(f"{split}/images/a.png" in message for message in caplog.messages) for split in ("train", "val"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["skipped"] == 1
    assert "image of b" in (tmp_path / "run" / "results.html").read_text()
    with pytest.raises(UserError, match=r"images/a\.png: cannot be read as an image"):
        train(small_config(tmp_path / "other", *data, "data.on_error=raise"))
    with pytest.raises(UserError, match=r"number of classes: .* init_from=.* with reset_head=true"):
        train(small_config(tmp_path / "run", "resume=auto"))  # digits has other classes


def test_pictures_of_evaluations_are_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = []
    monkeypatch.setattr(results, "_LONGEST_SIDE", 40)
    monkeypatch.setattr(History, "add_picture", lambda self, iteration, name, picture: added.append(picture.shape))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="segment: the model's weights are untrained")  # of course they are
        train(small_config(tmp_path / "run", "data.image_size=64", "train.max_iters=1", "eval_untrained=true"))
    assert added and set(added) == {(40, 3 * 40, 3)}
