"""Pictures of queries: whose mask is where, in which order, and what is averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference.queries import query_masks
from maskformer_ext.pictures.queries import QuerySummary, draw_queries

INFO = DatasetInfo("painted", ("ground", "box", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=(1, 2))


def _pixels(segments: np.ndarray, labels: list[int]) -> torch.Tensor:
    return torch.from_numpy(paint(segments, labels)).permute(2, 0, 1)


def test_masks_are_those_of_the_queries_without_padding() -> None:
    segments, labels = scene((30, 44), things=3)
    classes, masks = query_masks(PaintModel(3, size_divisibility=32), _pixels(segments, labels), InferenceConfig())
    assert classes.shape == (64, 4) and masks.shape == (64, 30, 44)
    for query, label in enumerate(labels):
        assert int(classes[query].argmax()) == label
        np.testing.assert_array_equal(masks[query] > 0.5, segments == query + 1)
    assert (classes[len(labels) :].argmax(-1) == 3).all()


def test_queries_that_are_not_finite_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    segments, labels = scene((16, 16), things=1)
    model = PaintModel(3)
    forward = model.forward

    def broken(images):
        output = forward(images)
        output._mask_logits[:, 1] = float("nan")
        return output

    monkeypatch.setattr(model, "forward", broken)
    classes, masks = query_masks(model, _pixels(segments, labels), InferenceConfig())
    assert classes[1].sum() == 0 and masks[1].sum() == 0
    assert draw_queries(_pixels(segments, labels), classes, masks, INFO).mode == "RGB"


def test_the_most_confident_query_comes_first_in_its_colour() -> None:
    classes = torch.tensor([[0.1, 0.1, 0.1, 0.7], [0.05, 0.9, 0.05, 0.0]])
    masks = torch.zeros(2, 8, 8)
    masks[1, :4] = 1.0
    picture = np.asarray(draw_queries(torch.full((3, 88, 88), 100, dtype=torch.uint8), classes, masks, INFO, columns=3))
    first = picture[6 : 6 + 176, 6 + 182 : 6 + 182 + 176]  # after the image itself
    red, green = first[40, 88, 0], first[40, 88, 1]
    assert int(red) > int(green) + 100
    assert first[140, 88].tolist() == [50, 50, 50]


def test_the_number_of_queries_is_limited() -> None:
    classes, masks = torch.full((30, 4), 0.25), torch.zeros(30, 4, 4)
    image = torch.zeros((3, 20, 20), dtype=torch.uint8)
    few, many = (draw_queries(image, classes, masks, INFO, most=most, columns=4) for most in (3, 30))
    assert few.height < many.height


def test_the_summary_averages_masks_of_used_queries_only() -> None:
    summary = QuerySummary(INFO)
    sure, unsure = torch.tensor([0.0, 0.9, 0.0, 0.1]), torch.tensor([0.0, 0.2, 0.0, 0.8])
    left, right = torch.zeros(12, 16), torch.zeros(12, 16)
    left[:, :8] = 1.0
    right[:, 8:] = 1.0
    summary.add(torch.stack([sure, unsure]), torch.stack([left, left]))
    summary.add(torch.stack([unsure, unsure]), torch.stack([right, left]))
    summary.add(torch.stack([sure, unsure]), torch.stack([right, left]))
    assert summary.counts.tolist() == [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    assert float(summary.masks[0, 20, 5]) == float(summary.masks[0, 20, 60]) == 1.0
    assert float(summary.masks[1].sum()) == 0.0
    assert summary.draw().size[0] < 2 * 200  # one tile: the other query is not used


def test_the_summary_counts_what_the_pictures_show_bright() -> None:
    """A class that is more probable than "no object" is enough, in both."""
    classes = torch.tensor([[0.1, 0.4, 0.15, 0.35], [0.2, 0.3, 0.1, 0.4]])
    masks = torch.zeros(2, 8, 8)
    masks[:, :4] = 1.0
    image = torch.full((3, 88, 88), 100, dtype=torch.uint8)
    picture = np.asarray(draw_queries(image, classes, masks, INFO, columns=3)).astype(int)
    bright, dim = (picture[6 + 20, 6 + 182 * column + 80] for column in (1, 2))
    assert bright[0] - bright[1] > dim[0] - dim[1] > 0
    summary = QuerySummary(INFO)
    summary.add(classes, masks)
    assert summary.counts.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_summaries_of_two_processes_equal_that_of_one() -> None:
    random = torch.Generator().manual_seed(0)
    images = [
        (torch.rand(5, len(INFO.classes) + 1, generator=random).softmax(-1), torch.rand(5, 8, 9, generator=random))
        for _ in range(3)
    ]
    whole, first, second, empty = (QuerySummary(INFO) for _ in range(4))
    for number, image in enumerate(images):
        whole.add(*image)
        (second if number == 1 else first).add(*image)
    empty.merge(json.loads(json.dumps(first.state())))
    empty.merge(json.loads(json.dumps(second.state())))
    empty.merge(QuerySummary(INFO).state())
    assert empty.images == 3 and torch.equal(empty.counts, whole.counts)
    torch.testing.assert_close(empty.masks, whole.masks)


def test_an_empty_summary_says_so() -> None:
    assert QuerySummary(INFO).draw().mode == "RGB"


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2), (1, 1)])
def test_pictures_of_queries_are_small_whatever_the_image(size: tuple[int, int]) -> None:
    classes, masks = torch.full((5, 4), 0.25), torch.zeros(5, 1, 1)
    long = DatasetInfo("long", ("x" * 50_000, "a\nb", "c"), INFO.colors)
    picture = draw_queries(torch.zeros((3, *size), dtype=torch.uint8), classes, masks, long)
    assert max(picture.size) < 1500


def test_per_pixel_baselines_have_no_queries() -> None:
    model = build_model(tiny_config(num_classes=3), architecture="per_pixel_baseline").eval()
    with pytest.raises(ValueError, match="has no queries"):
        query_masks(model, torch.zeros((3, 32, 32), dtype=torch.uint8), InferenceConfig())


def test_predict_draws_queries(tmp_path: Path) -> None:
    from PIL import Image

    from maskformer_ext import predict
    from maskformer_ext.config import Config
    from maskformer_ext.engine.checkpoints import save_checkpoint

    config = Config(name="tiny")
    config.model = tiny_config(num_classes=3)
    save_checkpoint(tmp_path / "run", 0, model=build_model(config.model), config=config, info=INFO, training={})
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    arguments = [f"checkpoint={tmp_path / 'run'}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}"]
    assert predict.main([*arguments, "queries=true"]) == 0
    assert (tmp_path / "out" / "queries" / "a.png").is_file()
    assert (tmp_path / "out" / "queries.png").is_file()
