"""Run lengths: the library and NumPy agree, with pycocotools byte for byte and with transformers number for number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco

from maskformer_ext.ops.support import rle, row_runs

SIZES = [(1, 1), (1, 9), (9, 1), (7, 64), (5, 65), (40, 130), (3, 200), (64, 8)]


def masks_of(size: tuple[int, int]) -> np.ndarray:
    """Make empty, full, single pixels, a row, a column, the corners, noise and blobs."""
    random = np.random.default_rng(0)
    height, width = size
    masks = np.zeros((10, height, width), bool)
    masks[1] = True
    masks[2, 0, 0] = masks[3, -1, -1] = masks[4, height // 2, width // 2] = True
    masks[5, height // 2] = masks[6, :, width // 2] = True
    masks[7, :: height - 1 or 1, :: width - 1 or 1] = True
    masks[8] = random.random(size) < 0.5
    masks[9] = random.random((height, 1)) + random.random((1, width)) < 0.8
    return masks


def box_of(mask: np.ndarray) -> list[int]:
    y, x = np.nonzero(mask)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) else [0, 0, 0, 0]


@pytest.mark.parametrize("by_numpy", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_are_written_as_by_coco(monkeypatch: pytest.MonkeyPatch, size, by_numpy: bool) -> None:
    if by_numpy:
        monkeypatch.setattr(rle, "_LIBRARY", None)
    masks = masks_of(size)
    packed = np.packbits(masks, axis=-1, bitorder="little")
    found = rle.encode_all(packed, [box_of(mask) for mask in masks], size)
    expected = [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    assert [one["counts"] for one in found] == [one["counts"] for one in expected]
    assert all(one["size"] == list(size) for one in found)
    everywhere = [0, 0, size[1], size[0]]
    assert rle.encode_all(packed, [everywhere] * len(masks), size) == found
    assert rle.encode(packed[8], tuple(everywhere), size) == found[8]


@pytest.mark.parametrize("by_numpy", [False, True])
def test_no_masks_have_no_run_lengths(monkeypatch: pytest.MonkeyPatch, by_numpy: bool) -> None:
    if by_numpy:
        monkeypatch.setattr(rle, "_LIBRARY", None)
    assert rle.encode_all(np.zeros((0, 4, 2), np.uint8), np.zeros((0, 4)), (4, 9)) == []


@pytest.mark.parametrize("by_numpy", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_runs_of_a_map_are_transformers(monkeypatch: pytest.MonkeyPatch, size, by_numpy: bool) -> None:
    from transformers.models.maskformer.image_processing_maskformer import convert_segmentation_to_rle

    if by_numpy:
        monkeypatch.setattr(row_runs, "_LIBRARY", None)
    random = np.random.default_rng(1)
    noise, blobs = random.integers(-1, 4, size), random.integers(-1, 4, size) // 9
    for small in (noise, np.sort(noise, axis=1), blobs):
        for height, width in (size, (2 * size[0] + 1, 3 * size[1]), (1 + size[0] // 2, 1 + size[1] // 3)):
            rows, columns = np.arange(height) * size[0] // height, np.arange(width) * size[1] // width
            expected = convert_segmentation_to_rle(torch.from_numpy(small[rows][:, columns]))
            found = row_runs.row_runs(small, rows, columns)
            assert [runs.tolist() for runs in found] == [list(map(int, runs)) for runs in expected]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_last_mask_is_on_top_unless_no_pixel_is_looked_at(monkeypatch: pytest.MonkeyPatch, size) -> None:
    masks = masks_of(size)
    packed, order = np.packbits(masks, axis=-1, bitorder="little"), np.array([1, 0, 9, 8, 6, 5, 3, 2, 3])
    for step in (1, 2):
        rows, columns = np.arange(0, size[0], step), np.arange(0, size[1], step)
        found, kept = row_runs.paint_masks(packed, order, size[1], rows, columns)
        assert kept.tolist() == [masks[index][rows][:, columns].any() for index in order]
        with monkeypatch.context() as patch:
            patch.setattr(row_runs, "_LIBRARY", None)
            expected, also = row_runs.paint_masks(packed, order, size[1], rows, columns)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(kept, also)
