"""`segment`: forms of images, padding, sizes, tiles, against a model that reads the answer off the pixels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from paint import PaintModel, paint, scene
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import InferenceConfig
from maskformer_ext.errors import UserError
from maskformer_ext.inference import segment, segment_tasks
from maskformer_ext.inference.prediction import QueryOutput, Reducer, run_network
from maskformer_ext.inference.tiling import make_tiles, owners
from maskformer_ext.media.images import read_image, resize_shortest_edge

THINGS = (1, 2)


def _same_partition(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two maps cut the image into the same parts, whatever their numbers."""
    pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(found)) == len(np.unique(expected))


def _tiny(**overrides) -> torch.nn.Module:
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
    assert _same_partition(panoptic.segment_map.numpy(), segments)
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


@pytest.mark.parametrize("tile", [24, 32, 50])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_give_the_whole_image(tile: int, batch_size: int) -> None:
    segments, labels = scene((70, 96), things=20, seed=1)
    model = PaintModel(3, size_divisibility=8)
    arguments = {"thing_classes": THINGS, "tile": tile, "batch_size": batch_size, "top_k": 200}
    results = segment_tasks(model, [paint(segments, labels)], ("semantic", "panoptic", "instance"), **arguments)[0]
    assert max(max(shape[-2:]) for shape in model.shapes) <= -(-tile // 8) * 8
    np.testing.assert_array_equal(results["semantic"].class_map, np.array([0, *labels])[segments])
    panoptic = results["panoptic"]
    assert _same_partition(panoptic.segment_map.numpy(), segments)
    assert sorted(info["category_id"] for info in panoptic.segments_info) == sorted(labels)
    assert sum(info["area"] for info in panoptic.segments_info) == segments.size
    instances = results["instance"]
    confident = instances[instances.scores > 0.5]
    expected = {(segments == n).tobytes() for n in range(2, len(labels) + 1)}
    assert {mask.numpy().tobytes() for mask in confident.masks} == expected
    assert len(confident) == len(expected)
    for box, mask in zip(confident.boxes.tolist(), confident.masks.numpy(), strict=True):
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_tiles_find_more_things_than_there_are_queries() -> None:
    segments, labels = scene((64, 128), things=40, seed=2)
    model = PaintModel(3, num_queries=20)
    image = paint(segments, labels)
    whole = segment(model, image, task="panoptic", thing_classes=THINGS)
    tiled = segment(model, image, task="panoptic", thing_classes=THINGS, tile=32)
    assert len(whole.segments_info) == 20
    assert len(tiled.segments_info) == 41


def test_a_thing_longer_than_a_tile_stays_one() -> None:
    segments = np.ones((40, 160), dtype=np.int64)
    segments[18:25, 4:150] = 2
    found = segment(PaintModel(3), paint(segments, [0, 1]), task="panoptic", thing_classes=THINGS, tile=32)
    assert [(info["category_id"], info["area"]) for info in found.segments_info] == [
        (0, 40 * 160 - 7 * 146),
        (1, 7 * 146),
    ]


@pytest.mark.parametrize(
    ("height", "width", "side"), [(70, 96, 32), (10, 100, 32), (33, 33, 32), (20, 20, 32), (9, 9, 1)]
)
def test_tiles_cover_the_image_with_overlap(height: int, width: int, side: int) -> None:
    tiles = make_tiles(height, width, side)
    covered = np.zeros((height, width), dtype=int)
    for tile in tiles:
        covered[tile.window] += 1
        assert covered[tile.window].shape == (min(side, height), min(side, width))
    assert covered.min() >= 1
    lefts = sorted({tile.left for tile in tiles})
    assert all(after - before <= side - side // 4 or side == 1 for before, after in pairwise(lefts))
    owner = owners(tiles, height, width)
    for index, tile in enumerate(tiles):
        inside = np.zeros_like(covered, dtype=bool)
        inside[tile.window] = True
        assert not (owner == index)[~inside].any()


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


def _views(model, pixels: torch.Tensor, size: tuple[int, int], sides: list[int], resize: str) -> torch.Tensor:
    """Average the scores of sizes and mirror images by torch's own functions."""
    total = torch.zeros(())
    for side in sides:
        view = resize_shortest_edge(pixels, side, 2048)
        for flip in (False, True):
            output = run_network(model, (view.flip(-1) if flip else view)[None])[0]
            scores = Reducer(["semantic"], None, InferenceConfig(resize=resize)).scores(output, size)
            total = total + (scores.flip(-1) if flip else scores) / (2 * len(sides))
    return total


@pytest.mark.parametrize("resize", ["scores", "logits"])
@pytest.mark.parametrize("architecture", ["maskformer", "per_pixel_baseline"])
def test_views_are_averaged(architecture: str, resize: str) -> None:
    model = _tiny(architecture=architecture)
    pixels = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    options = {"tta": True, "tta_min_sizes": [32, 61], "tta_max_size": 2048, "resize": resize}
    with torch.no_grad():
        expected = _views(model, pixels, (45, 80), [32, 61], resize)
    top = expected.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-5
    assert clear.float().mean() > 0.9
    for batch_size in (1, 2):
        found = segment(model, pixels, size=(45, 80), batch_size=batch_size, **options).class_map
        assert torch.equal(found[clear], expected.argmax(0)[clear])


@pytest.mark.parametrize("tile", [0, 32])
def test_views_of_a_painted_image_give_it_back(tile: int) -> None:
    segments, labels = scene((48, 60), things=5)
    model = PaintModel(3)
    options = {"tta": True, "tta_min_sizes": [], "tile": tile}
    found = segment(model, paint(segments, labels), **options)
    np.testing.assert_array_equal(found.class_map, np.array([0, *labels])[segments])
    assert len(model.shapes) == (2 if not tile else 2 * len(make_tiles(48, 60, tile)))


def test_views_of_segments_are_refused() -> None:
    with pytest.raises(ValueError, match='task must be "semantic", got panoptic'):
        segment(PaintModel(3), np.zeros((8, 8, 3), dtype=np.uint8), task="panoptic", tta=True)


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
