"""The same weights in other runtimes: what is measured, and what is said of a runtime that cannot."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from rich.console import Console

from maskformer_ext.config.load import load_config
from maskformer_ext.inference import peers
from maskformer_ext.inference.analysis_table import draw_peers

R50 = "ade20k-150/maskformer_R50_bs16_160k"


def test_the_same_weights_run_in_every_installed_runtime() -> None:
    rows = peers.compare_peers(load_config(R50), (64, 64), 1)
    assert [row["name"] for row in rows] == list(peers.KINDS)
    for row in rows:
        packages = peers._PACKAGES.get(row["name"], ())
        if all(find_spec(package) for package in packages):
            assert "problem" not in row, row
            assert row["seconds"] * row["images_per_second"] == pytest.approx(1) and row["peak_mib"] > 50
        else:
            assert "is not installed" in row["problem"]


def test_a_network_that_a_runtime_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "KINDS", ("transformers",))
    monkeypatch.setattr(peers, "find_spec", lambda package: True)
    recipe = "ade20k-150/per_pixel_baseline_R50_bs16_160k"
    (row,) = peers.compare_peers(load_config(recipe), (64, 64), 1)
    assert row["problem"] == "transformers has no per-pixel baselines"


def test_another_result_is_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str, *_arguments: Any) -> dict[str, Any]:
        return {"name": name, "seconds": 1.0, "images_per_second": 1.0, "peak_mib": 1.0, "mean_logit": float(len(name))}

    monkeypatch.setattr(peers, "KINDS", ("a", "b", "longer"))
    monkeypatch.setattr(peers, "_measure", measure)
    rows = peers.compare_peers(load_config("digits", ["model.backbone=resnet50"]), (64, 64), 1)
    assert [row.get("problem") for row in rows] == [None, None, "computes something else"]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(draw_peers("digits", (64, 64), rows))
    assert "1000 ms" in capture.get() and "longer: computes something else" in capture.get()
