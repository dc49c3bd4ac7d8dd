"""Augmentation: image and segment map move together, and every random number comes from the generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as v2
from typed import present

from maskformer_ext.config import AugmentationConfig
from maskformer_ext.data.augmentation.colors import jitter_colors, turn_hue
from maskformer_ext.data.augmentation.grid import PixelGrid
from maskformer_ext.data.augmentation.transforms import CROP_TRIES, Augment, choose_crop
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError

_GREY = torch.tensor([40, 90, 140, 190, 240], dtype=torch.uint8)


def _sample(height: int = 60, width: int = 90, seed: int = 0) -> Sample:
    """Return an image whose grey level tells the segment, with void in the first row."""
    cells = torch.randint(0, 5, (height // 10, width // 10), generator=torch.Generator().manual_seed(seed))
    segment_map = cells.repeat_interleave(10, 0).repeat_interleave(10, 1).int()
    image = _GREY[segment_map.long()].expand(3, -1, -1).contiguous()
    segment_map[0] = -1
    return Sample(image, segment_map, torch.tensor([3, 1, 4, 1, 5]), "s", (height, width))


def _config(**changes) -> AugmentationConfig:
    plain = {"min_sizes": [], "crop_size": [], "color": False, "horizontal_flip": False}
    return AugmentationConfig(**{**plain, **changes})


def _augment(sample: Sample, config: AugmentationConfig, seed: int, drop: bool = False) -> Sample:
    return Augment(config, drop_empty_segments=drop)(sample, torch.Generator().manual_seed(seed))


def _assert_aligned(sample: Sample) -> None:
    known = sample.segment_map >= 0
    expected = _GREY[sample.segment_map.clamp(min=0).long()]
    assert torch.equal(sample.image[0][known], expected[known])
    assert type(sample.image) is torch.Tensor and type(sample.segment_map) is torch.Tensor
    assert sample.image.dtype == torch.uint8 and sample.segment_map.dtype == torch.int32


@pytest.mark.parametrize(
    "changes",
    [
        {"horizontal_flip": True},
        {"vertical_flip": True},
        {"rotate90": True},
        {"crop_size": [32, 48]},
        {"horizontal_flip": True, "vertical_flip": True, "rotate90": True, "crop_size": [40, 25]},
    ],
)
def test_image_and_segments_move_together(changes):
    source = _sample()
    outcomes = set()
    for seed in range(12):
        result = _augment(source, _config(**changes), seed)
        _assert_aligned(result)
        outcomes.add(result.image.numpy().tobytes())
        assert result.labels.tolist() == [3, 1, 4, 1, 5] and result.size == (60, 90)
    assert len(outcomes) >= 2
    assert torch.equal(source.image, _sample().image)  # the source is not changed


def test_resize_scales_the_shortest_edge_and_keeps_labels_whole():
    result = _augment(_sample(), _config(min_sizes=[120]), 0)
    assert result.image.shape == (3, 120, 180) and result.segment_map.shape == (120, 180)
    inner = torch.nn.functional.max_pool2d(result.segment_map[None].float(), 5, 1, 2)[0]
    inner = (inner == -torch.nn.functional.max_pool2d(-result.segment_map[None].float(), 5, 1, 2)[0]) & (inner >= 0)
    expected = _GREY[result.segment_map.clamp(min=0).long()]
    assert inner.float().mean() > 0.3
    assert torch.equal(result.image[0][inner], expected[inner])
    assert set(result.segment_map.unique().tolist()) == {-1, 0, 1, 2, 3, 4}


def test_resize_draws_from_the_sizes_and_caps_the_longest_edge():
    shapes = {
        tuple(_augment(_sample(), _config(min_sizes=[30, 45, 120], max_size=90), s).image.shape) for s in range(20)
    }
    assert shapes == {(3, 30, 45), (3, 45, 68), (3, 60, 90)}


def test_crop_is_as_large_as_the_image_allows():
    result = _augment(_sample(), _config(crop_size=[64, 32]), 0)
    assert result.image.shape == (3, 60, 32)


@pytest.mark.parametrize("drop", [False, True])
def test_segments_that_a_crop_removes(drop):
    sample = _sample()
    sample.segment_map[:] = 0
    sample.segment_map[:, 80:] = 3
    results = [_augment(sample, _config(crop_size=[20, 20]), seed, drop) for seed in range(20)]
    without = [r for r in results if not (r.segment_map == 3).any() and not (r.segment_map == 1).all()]
    assert without
    for result in without:
        assert result.labels.tolist() == ([3] if drop else [3, 1, 4, 1, 5])


@pytest.mark.parametrize("drop", [False, True])
def test_masks_of_overlapping_segments_move_with_the_map(drop):
    sample = _sample()
    sample.masks = sample.segment_map == torch.arange(5)[:, None, None]
    changes = {"min_sizes": [50, 80], "crop_size": [20, 30], "rotate90": True, "horizontal_flip": True}
    for seed in range(6):
        result = _augment(sample, _config(**changes), seed, drop)
        expected = result.segment_map == torch.arange(len(result.labels))[:, None, None]
        assert torch.equal(present(result.masks), expected) and (not drop or expected.any(2).any(1).all())


def test_crops_avoid_a_dominant_class():
    segment_map = torch.zeros(100, 100, dtype=torch.int32)
    segment_map[:, 50:] = 2  # segments 0 and 1 are of one class
    segment_map[::2, :50] = 1
    labels = torch.tensor([7, 7, 2])
    grid = PixelGrid((100, 100))
    area, filled = 0.75, {0.75: 0, 1.0: 0}
    for seed in range(200):
        for limit in filled:
            generator = torch.Generator().manual_seed(seed)
            top, left, h, w = choose_crop(grid, segment_map, labels, [40, 40], limit, generator)
            assert 0 <= top <= 60 and 0 <= left <= 60 and (h, w) == (40, 40)
            share = (segment_map[top : top + h, left : left + w] == 2).float().mean().item()
            filled[limit] += max(share, 1 - share) >= area
    assert filled[1.0] > 100
    assert filled[0.75] < 15  # 69% of the places are bad, so ten draws fail in 2.4% of the cases


def test_a_crop_is_found_where_no_place_satisfies_the_rule():
    segment_map = torch.full((30, 30), -1, dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    box = choose_crop(PixelGrid((30, 30)), segment_map, torch.zeros(0, dtype=torch.int64), [10, 10], 0.5, generator)
    assert box[2:] == (10, 10)
    spent = torch.Generator().manual_seed(0)
    for _ in range(2 * CROP_TRIES):
        torch.randint(21, (), generator=spent)
    assert torch.equal(generator.get_state(), spent.get_state())


def test_colours_change_within_their_range():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    values = [int(jitter_colors(grey, torch.Generator().manual_seed(seed))[0, 0, 0]) for seed in range(300)]
    assert values.count(100) > 40  # neither brightness nor contrast: a quarter; saturation and hue leave grey alone
    assert min(values) >= int((100 - 32) * 0.5) - 1 and max(values) <= int((100 + 32) * 1.5) + 1
    assert min(values) < 60 and max(values) > 140
    color = torch.tensor([200, 60, 20], dtype=torch.uint8).view(3, 1, 1)
    spread = {tuple(jitter_colors(color, torch.Generator().manual_seed(seed)).flatten().tolist()) for seed in range(50)}
    assert len(spread) > 40


@pytest.mark.parametrize("turn", [-1 / 6, -0.1, -0.031, 0.0, 0.017, 0.1, 1 / 6])
def test_hue_turns_as_in_hsv(turn):
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    image[:, :20] //= 16  # dark and nearly grey, where the hue is ill-defined
    image[:, 20:30] = image[:1, 20:30]
    difference = (turn_hue(image, turn).int() - v2.adjust_hue(image, turn).int()).abs()
    assert difference.max() <= 1 and difference.float().mean() < 0.2
    assert turn or not difference.any()


def test_larger_turns_of_hue_are_refused():
    with pytest.raises(ValueError, match=r"within -1/6 and 1/6, got 0\.2"):
        turn_hue(torch.zeros(3, 2, 2, dtype=torch.uint8), 0.2)


@pytest.mark.parametrize("size", [(7, 9), (30, 20), (61, 45), (23, 37)])
def test_labels_are_resized_as_pillow_does(size):
    source = np.random.default_rng(0).integers(0, 99, (23, 37)).astype(np.int32)
    grid = PixelGrid((23, 37))
    grid.resize(size)
    expected = Image.fromarray(source).resize(size[::-1], Image.Resampling.NEAREST)
    assert np.array_equal(grid.read(torch.from_numpy(source)), np.asarray(expected))


def test_a_grid_does_at_once_what_arrays_do_in_steps():
    source = torch.arange(2 * 12 * 17).view(2, 12, 17)
    for turns in range(4):
        grid, steps = PixelGrid((12, 17)), source
        grid.crop(1, 2, 10, 14)
        steps = steps[:, 1:11, 2:16]
        grid.rotate90(turns)
        steps = steps.rot90(turns, (1, 2))
        for axis in (0, 1):
            grid.flip(axis)
            steps = steps.flip(axis + 1)
        grid.rotate90(1)
        steps = steps.rot90(1, (1, 2))
        assert grid.shape == steps.shape[1:] and torch.equal(grid.read(source), steps)
        assert torch.equal(grid.read(source, (2, 3, 4, 5)), steps[:, 2:6, 3:8])


def test_result_does_not_depend_on_how_an_image_lies_in_memory():
    sample = _sample()
    sample.image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    channels_last = _sample()
    channels_last.image = sample.image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    config = _config(min_sizes=[45, 77], crop_size=[40, 40], color=True, rotate90=True, vertical_flip=True)
    for seed in range(8):
        results = [_augment(each, config, seed).image for each in (sample, channels_last)]
        assert results[0].is_contiguous() and torch.equal(*results)


def test_result_is_a_function_of_the_generator():
    config = _config(min_sizes=[50, 70], crop_size=[40, 40], color=True, horizontal_flip=True, rotate90=True)
    before = torch.get_rng_state()
    first, again = (_augment(_sample(), config, 5) for _ in range(2))
    assert torch.equal(first.image, again.image) and torch.equal(first.segment_map, again.segment_map)
    assert torch.equal(torch.get_rng_state(), before)
    assert any(not torch.equal(first.image, _augment(_sample(), config, seed).image) for seed in (6, 7))


def test_many_segments_cost_no_more_than_few():
    sample = _sample()
    sample.segment_map = torch.arange(5400, dtype=torch.int32).view(60, 90)  # one segment per pixel
    sample.labels = torch.zeros(5400, dtype=torch.int64)
    result = _augment(sample, _config(min_sizes=[120], crop_size=[64, 64]), 0, drop=True)
    assert 64 * 64 / 4 <= len(result.labels) <= 33 * 33
    assert torch.equal(result.segment_map.unique(), torch.arange(len(result.labels), dtype=torch.int32))


def test_half_of_the_images_are_zoomed_before_they_are_resized():
    config = _config(zoom_sizes=[80, 100], zoom_range=[40, 70])
    shapes = [tuple(_augment(_sample(), config, seed).segment_map.shape) for seed in range(200)]
    zoomed = [shape for shape in shapes if shape != (60, 90)]
    assert 70 <= len(zoomed) <= 130
    assert {min(shape) for shape in zoomed} >= {40, 41} and {max(shape) for shape in zoomed} >= {69, 70}
    assert all(40 <= side <= 70 for shape in zoomed for side in shape)
    resized = _config(zoom_sizes=[80], zoom_range=[40, 70], min_sizes=[50])
    assert {min(_augment(_sample(), resized, seed).segment_map.shape) for seed in range(20)} == {50}


def test_a_zoom_smaller_than_its_crop_keeps_the_whole_side():
    config = _config(zoom_sizes=[30], zoom_range=[40, 70])  # 60x90 becomes 30x45
    shapes = {tuple(_augment(_sample(), config, seed).segment_map.shape) for seed in range(60)}
    assert shapes == {(60, 90), *((30, width) for width in range(40, 46))}


@pytest.mark.parametrize(
    "changes",
    [{"crop_size": [64]}, {"crop_size": [0, 4]}, {"min_sizes": [-1]}, {"zoom_range": [9, 5]}, {"zoom_sizes": [0]}],
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(UserError, match=r"data\.augmentation"):
        Augment(_config(**changes), drop_empty_segments=False)
