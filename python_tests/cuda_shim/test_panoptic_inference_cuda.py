"""The CUDA kernels of panoptic_inference against the CPU's; pixels may differ only where two queries are alike."""

from __future__ import annotations

import pytest
import torch
from conftest import cuda_kernels_only
from predictions import confident_predictions, with_broken_queries
from resizes import RESIZES, peaks, resized

from maskformer_ext.ops.support.predictions import class_probabilities


def call(ops, class_logits, mask_logits, size, input_size=None, crop=None, *, modes, thresholds, things=(0, 1, 2)):
    probability, _ = class_probabilities(class_logits, mask_logits)
    return ops.panoptic_inference(probability, mask_logits, size, list(things), *thresholds, input_size, crop, *modes)


def compare(shim, class_logits, mask_logits, size, input_size=None, crop=None, *, modes=(False, False), **options):
    options = {"modes": modes, "thresholds": (0.3, 0.4, 0.5)} | options
    arguments = (class_logits, mask_logits, size, input_size, crop)
    segment_map, table, count = call(shim, *arguments, **options)
    expected_map, expected, expected_count = call(torch.ops.maskformer_ext, *arguments, **options)
    kept = expected[:, 3] > 0
    assert torch.equal(table[:, :4], expected[:, :4])
    assert count == expected_count and count.dtype == torch.int64
    differs = segment_map != expected_map
    assert int((table[:, 4] - expected[:, 4]).abs().sum()) <= 2 * int(differs.sum())
    assert int(table[:, 4].sum()) == (size[0] * size[1] if kept.any() else 0)
    if differs.any():
        masks = mask_logits[kept]
        if modes[0]:
            values = resized(masks, size, input_size, crop, between=torch.sigmoid)
        else:
            values = resized(masks, size, input_size, crop).sigmoid()
        best = (values * expected[kept, 3].view(-1, 1, 1)).topk(2, dim=0).values
        assert (best[0] - best[1])[differs].max() < 1e-6
    return segment_map, table


@pytest.mark.parametrize("weighted_area", [False, True])
@pytest.mark.parametrize("probabilities_first", [False, True])
@pytest.mark.parametrize("case", RESIZES, ids=str)
def test_maps_and_tables(shim, case, probabilities_first, weighted_area):
    shape, *arguments = case
    class_logits, mask_logits = with_broken_queries(*confident_predictions(12, 6, shape, seed=3))
    _, table = compare(shim, class_logits, mask_logits, *arguments, modes=(probabilities_first, weighted_area))
    assert (table[-4:] == 0).all() and (table[:, 0] > 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("probabilities_first", [False, True])
def test_half_precision_and_strides(shim, dtype, probabilities_first):
    class_logits, mask_logits = confident_predictions(9, 4, (22, 30), seed=1)
    mask_logits = mask_logits.to(dtype)
    for logits in (mask_logits, mask_logits[:, ::2], mask_logits.mT):
        for more in ((), ((40, 50), (33, 50))):
            compare(shim, class_logits, logits, (45, 70), *more, modes=(probabilities_first, False))


def test_more_queries_than_lanes_and_several_blocks(shim):
    class_logits, mask_logits = confident_predictions(90, 5, (16, 24), seed=2)
    for modes in ((False, False), (True, True)):
        _, table = compare(shim, class_logits, mask_logits, (70, 75), modes=modes, thresholds=(0.2, 0.01, 0.5))
        assert (table[:, 3] > 0).sum() > 64
    noise = torch.randn(70, 8, 8)  # many winners among neighbours
    compare(shim, class_logits[:70], noise, (33, 40), thresholds=(0.2, 0.0, 0.5))


@pytest.mark.parametrize("probabilities_first", [False, True])
@pytest.mark.parametrize("sizes", [((30, 70),), ((19, 41), (28, 36), (25, 33)), ((5, 40),)], ids=str)
def test_no_peak_is_left_out(shim, sizes, probabilities_first):
    class_logits = torch.zeros(35, 4)
    class_logits[:, 1] = torch.linspace(3, 6, 35)
    compare(shim, class_logits, peaks(5, 7), *sizes, modes=(probabilities_first, False), things=(1,))


def test_stuff_joins_and_things_do_not(shim):
    class_logits = torch.full((5, 3), -9.0)
    for query, category in enumerate((0, 1, 0, 1, 2)):
        class_logits[query, category] = 9.0
    mask_logits = torch.full((5, 4, 10), -9.0)
    for query in range(5):
        mask_logits[query, :, 2 * query : 2 * query + 2] = 9.0
    segment_map, table = compare(shim, class_logits, mask_logits, (4, 10), things=(1,))
    assert table[:, 0].tolist() == [1, 2, 1, 3, 0]
    assert segment_map[0, :8].tolist() == [1, 1, 2, 2, 1, 1, 3, 3]
    compare(shim, class_logits, mask_logits, (4, 10), things=(-5, 1, 77))


def test_nothing_kept_and_no_queries(shim):
    class_logits, mask_logits = confident_predictions(6, 4, (8, 9))
    for queries in (6, 0):
        arguments = (class_logits[:queries], mask_logits[:queries], (20, 33))
        segment_map, table = compare(shim, *arguments, thresholds=(1.5, 0.8, 0.5))
        assert (segment_map == 0).all() and (table == 0).all()


@cuda_kernels_only
def test_thing_classes_that_do_not_fit_are_refused(shim):
    with pytest.raises(RuntimeError, match="thing_classes must be below 16384 on CUDA, got 16384"):
        shim.panoptic_inference(
            torch.rand(1, 20000), torch.randn(1, 3, 3), (4, 4), [16384], 0.8, 0.8, 0.5, None, None, False, False
        )
