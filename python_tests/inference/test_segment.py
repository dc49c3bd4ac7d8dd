"""`segment`: forms of images, padding and sizes, against a model that reads the answer off the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from paint import THINGS, PaintModel, paint, same_partition, scene
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.checkpoints.models import Model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.errors import UserError
from maskformer_ext.inference import segment, segment_tasks
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.media.images import read_image, resize_shortest_edge


def _tiny(**overrides) -> Model:
    return build_model(tiny_config(num_classes=5), **overrides).eval()


@pytest.mark.parametrize("divisibility", [1, 32])
@pytest.mark.parametrize("size", [(40, 56), (33, 31)])
def test_all_tasks_give_back_what_was_painted(size: tuple[int, int], divisibility: int) -> None:
    segments, labels = scene(size, things=6)
    model = PaintModel(3, size_divisibility=divisibility)
    image = paint(segments, labels)
    results = segment_tasks(model, [image], ("semantic", "panoptic", "instance"), thing_classes=THINGS)[0]

    np.testing.assert_array_equal(results["semantic"].class_map, np.array([0, *labels])[segments])

    panoptic = results["panoptic"]
    assert same_partition(panoptic.segment_map.numpy(), segments)
    for info in panoptic.segments_info:
        own = panoptic.segment_map.numpy() == info["id"]
        assert info["category_id"] == labels[segments[own][0] - 1]
        assert info["isthing"] == (info["category_id"] in THINGS)
        assert info["area"] == own.sum()

    instances = results["instance"]
    confident = instances[instances.scores > 0.5]
    assert sorted(confident.labels.tolist()) == sorted(labels[1:])
    found = {
        (mask.numpy().tobytes(), label) for mask, label in zip(confident.masks, confident.labels.tolist(), strict=True)
    }
    assert found == {((segments == n).tobytes(), label) for n, label in enumerate(labels, 1) if label in THINGS}
    assert all(side % divisibility == 0 for shape in model.shapes for side in shape[-2:])


def test_every_form_of_an_image_gives_the_same(tmp_path: Path) -> None:
    segments, labels = scene((24, 30), things=3)
    array = paint(segments, labels)
    file = tmp_path / "painted.png"
    Image.fromarray(array).save(file)
    forms = [array, Image.fromarray(array), file, str(file), torch.from_numpy(array).permute(2, 0, 1)]
    results = segment(PaintModel(3), forms)
    for result in results:
        assert torch.equal(result.class_map, results[0].class_map)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_files_of_every_mode_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    if mode == "1":
        grey = (grey > 100).astype(np.uint8) * 255
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "image.png")
    pixels = read_image(tmp_path / "image.png").numpy()
    assert pixels.shape == (3, 8, 8)
    assert np.abs(pixels.astype(int) - grey).max() <= 1


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 8, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert segment(PaintModel(3), tmp_path / "turned.jpg").class_map.shape == (8, 4)


def test_results_do_not_depend_on_the_rest_of_the_list() -> None:
    model = _tiny()
    images = [
        np.random.default_rng(i).integers(0, 255, size, np.uint8)
        for i, size in enumerate([(50, 64, 3)] * 3 + [(64, 40, 3)])
    ]
    together = segment(model, images, task="panoptic", batch_size=3, object_mask_threshold=0.0, overlap_threshold=0.0)
    for image, result in zip(images, together, strict=True):
        alone = segment(model, image, task="panoptic", object_mask_threshold=0.0, overlap_threshold=0.0)
        assert result.segment_map.shape == image.shape[:2]
        assert (alone.segment_map != result.segment_map).float().mean() < 0.01


@pytest.mark.parametrize("resize", ["scores", "logits"])
def test_semantic_equals_the_formula_written_out(resize: str) -> None:
    model = _tiny()
    pixels = torch.randint(0, 256, (3, 75, 50), dtype=torch.uint8)
    found = segment(model, pixels, size=(40, 90), resize=resize, min_size=64).class_map

    small = resize_shortest_edge(pixels, 64, 2048)
    assert small.shape == (3, 96, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.pixel_mean, model.config.pixel_std))
    with torch.no_grad():
        out = model(((small.float() - mean) / std)[None])
    classes = out.class_logits[-1, 0].softmax(-1)[:, :-1]
    masks = F.interpolate(out.mask_logits(), (96, 64), mode="bilinear")
    if resize == "logits":
        masks = F.interpolate(masks, (40, 90), mode="bilinear")
    scores = torch.einsum("qk,qhw->khw", classes, masks[0].sigmoid())
    if resize == "scores":
        scores = F.interpolate(scores[None], (40, 90), mode="bilinear")[0]
    top = scores.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-5
    assert clear.float().mean() > 0.9
    assert torch.equal(found[clear], scores.argmax(0)[clear])


@pytest.mark.parametrize("architecture", ["per_pixel_baseline", "per_pixel_baseline_plus"])
def test_per_pixel_baselines_do_semantic_only(architecture: str) -> None:
    model = _tiny(architecture=architecture)
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    assert segment(model, image).class_map.shape == (50, 70)
    assert segment(model, image, tile=32).class_map.shape == (50, 70)
    with pytest.raises(ValueError, match='task must be "semantic" for a per-pixel baseline'):
        segment(model, image, task="panoptic")


def test_the_model_is_left_in_the_mode_it_was_in() -> None:
    model = _tiny().train()
    segment(model, np.zeros((32, 32, 3), dtype=np.uint8))
    assert model.training


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        ((100, 150), 50, 0, (50, 75)),
        ((100, 150), 200, 240, (160, 240)),
        ((100, 150), 0, 0, (100, 150)),
        ((300, 150), 0, 200, (200, 100)),
        ((3, 1000), 0, 100, (1, 100)),
    ],
)
def test_shortest_edge_is_resized_within_the_limit(size, min_size: int, max_size: int, expected) -> None:
    assert resize_shortest_edge(torch.zeros(3, *size, dtype=torch.uint8), min_size, max_size).shape[1:] == expected


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (
            np.zeros((4, 4, 3)),
            ValueError,
            r"must be \(H, W, 3\) or \(H, W\) uint8 as an array, got \(4, 4, 3\) float64",
        ),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), ValueError, r"must be \(3, H, W\) uint8 as a tensor"),
        (np.zeros((0, 4, 3), dtype=np.uint8), ValueError, "must have pixels"),
        (7, TypeError, "got int"),
        ("nowhere.png", UserError, "nowhere.png: no such image file"),
    ],
)
def test_what_is_no_image_is_refused(image, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        segment(PaintModel(3), image)


def test_unknown_tasks_and_options_are_refused() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="one of semantic, instance, panoptic, got 'depth'"):
        segment(PaintModel(3), image, task="depth")
    with pytest.raises(TypeError, match="tiles"):
        segment(PaintModel(3), image, tiles=3, config=InferenceConfig())


@pytest.mark.parametrize("resize", ["scores", "logits"])
def test_semantic_by_the_best_query_equals_the_formula_written_out(resize: str) -> None:
    torch.manual_seed(3)
    class_logits, mask_logits = 3 * torch.randn(9, 5), 4 * torch.randn(9, 12, 10)
    class_logits[4, -1] = 20.0  # says "no object"
    class_logits[5, 2] = torch.nan
    class_logits[6, 1] = 200.0  # certain
    reducer = Reducer(["semantic"], None, InferenceConfig(resize=resize, semantic="argmax"))
    found = reducer.semantic(QueryOutput(class_logits, mask_logits, (48, 40), (45, 33)), (30, 22)).class_map

    probability, label = class_logits.softmax(-1).max(-1)
    absent = (label == 4) | class_logits.isnan().any(-1)
    assert absent[4] and absent[5] and not absent[6]
    masks = F.interpolate(mask_logits[None], (48, 40), mode="bilinear")[..., :45, :33]
    if resize == "logits":
        masks = F.interpolate(masks, (30, 22), mode="bilinear")
    scores = torch.where(absent, 0.0, probability)[:, None, None] * masks[0].sigmoid()
    if resize == "scores":
        scores = F.interpolate(scores[None], (30, 22), mode="bilinear")[0]
    top = scores.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-5
    assert clear.float().mean() > 0.9
    assert torch.equal(found[clear], label[scores.argmax(0)][clear])
    by_sum = Reducer(["semantic"], None, InferenceConfig(resize=resize)).semantic(
        QueryOutput(class_logits, mask_logits, (48, 40), (45, 33)), (30, 22)
    )
    assert (by_sum.class_map != found).any()


def test_semantic_by_the_best_query_without_any_object_still_names_a_class() -> None:
    class_logits = torch.tensor([[0.0, 1.0, 9.0], [2.0, 0.0, 9.0]])
    mask_logits = torch.tensor([1.0, -1.0]).view(2, 1, 1).expand(2, 4, 4)
    output = QueryOutput(class_logits, mask_logits, (16, 16), (16, 16))
    reducer = Reducer(["semantic"], None, InferenceConfig(semantic="argmax"))
    assert reducer.semantic(output, (16, 16)).class_map.unique().tolist() == [1]


def test_semantic_by_the_best_query_has_no_scores_to_average() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    for options in ({"tile": 32}, {"tta": True, "tta_min_sizes": [32]}):
        with pytest.raises(ValueError, match="semantic must be sum where class scores of tiles or views are averaged"):
            segment(_tiny(), pixels, semantic="argmax", **options)
