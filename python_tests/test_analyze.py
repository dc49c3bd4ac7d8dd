"""Sizes, costs and speeds of recipes: counted figures against the paper's, and what the command prints and refuses."""

from __future__ import annotations

import json

import pytest
from typed import present

from maskformer_ext import analyze
from maskformer_ext.config.load import find_config, load_config
from maskformer_ext.inference.analysis import count_operations, input_size, original_recipes, paper_figures


@pytest.mark.parametrize("recipe", original_recipes())
def test_counts_agree_with_what_the_recipe_quotes(recipe: str) -> None:
    config, paper = load_config(recipe), present(paper_figures(recipe))
    parameters, gflops = count_operations(config, input_size(config))
    assert f"parameters {parameters / 1e6:.1f}M," in find_config(recipe).read_text()
    if (
        paper.gflops
    ):  # which count norms and every layer's masks too; panoptic recipes average over images of all shapes
        assert gflops == pytest.approx(paper.gflops, rel=0.1)


def test_a_linear_layer_costs_its_multiply_adds() -> None:
    def gflops(**overrides) -> float:
        return count_operations(load_config("ade20k-150/maskformer_R50_bs16_160k", overrides), (128, 128))[1]

    added = gflops(**{"model.num_classes": 250}) - gflops(**{"model.num_classes": 150})
    assert added == pytest.approx(6 * 100 * 256 * 100 / 1e9, rel=1e-6)  # layers, queries, width, classes


def test_there_are_thirty_recipes_with_paper_figures() -> None:
    assert len(original_recipes()) == 30
    assert paper_figures("digits") is None
    r50 = present(paper_figures("ade20k-150/maskformer_R50_bs16_160k"))
    assert (r50.metric, r50.score, r50.gflops, r50.images_per_second) == ("mIoU", 44.5, 53.0, 24.5)
    assert present(paper_figures("coco-panoptic/maskformer_panoptic_R50_bs64_554k")).metric == "PQ"
    assert present(paper_figures("ade20k-full-847/maskformer_R50_bs16_200k")).score is None


def test_the_command_prints_one_table_and_writes_it(tmp_path, capsys) -> None:
    output = tmp_path / "table.json"
    recipes = ["digits", "ade20k-150/per_pixel_baseline_R50_bs16_160k"]
    assert analyze.main([*recipes, "size=32x48", "repeats=1", "device=cpu", f"output={output}"]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(output.read_text())["recipes"]
    assert [row["recipe"] for row in rows] == recipes and all(recipe in printed for recipe in recipes)
    assert all(row["images_per_second"] > 0 and row["size"] == [32, 48] for row in rows)
    assert rows[1]["parameters"] == 31033942 and rows[1]["paper"]["score"] == 39.2
    assert "mIoU 39.2" in printed and "31.0M" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ade20k-150/maskformer_R5"], "did you mean"),
        (
            ["digits", "size=32"],
            "size must be height and width in pixels, as in size=512x768 or",
        ),
        (["digits", "repeats=-1"], "repeats must be a number of images, at least 0, got '-1'"),
        (["digits", "repeat=1"], "did you mean 'repeats'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str, capsys) -> None:
    assert analyze.main(arguments) == 2
    assert message in capsys.readouterr().err
