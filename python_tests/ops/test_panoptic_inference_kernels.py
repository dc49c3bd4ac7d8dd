"""The kernels of panoptic_inference against the CPU's; pixels may differ only where two queries are alike."""

from __future__ import annotations

import pytest
import torch
from predictions import confident_predictions, with_broken_queries
from resizes import INFERENCE_SIZES, RESIZES, peaks, resized

from maskformer_ext.ops import panoptic_inference
from maskformer_ext.ops.support.predictions import class_probabilities


def call(ops, class_logits, mask_logits, size, input_size=None, crop=None, *, modes, thresholds, things=(0, 1, 2)):
    probability, _ = class_probabilities(class_logits, mask_logits)
    return ops.panoptic_inference(probability, mask_logits, size, list(things), *thresholds, input_size, crop, *modes)


def compare(kernels, class_logits, mask_logits, size, input_size=None, crop=None, *, modes=(False, False), **options):
    options = {"modes": modes, "thresholds": (0.3, 0.4, 0.5)} | options
    arguments = (class_logits, mask_logits, size, input_size, crop)
    segment_map, table, count = call(kernels.native, *arguments, **options)
    with kernels.of_the_cpu():
        expected_map, expected, expected_count = call(torch.ops.maskformer_ext, *arguments, **options)
    kept = expected[:, 3] > 0
    assert torch.equal(table[:, :4], expected[:, :4])
    assert count == expected_count and count.dtype == torch.int64
    differs = segment_map != expected_map
    assert int((table[:, 4] - expected[:, 4]).abs().sum()) <= 2 * int(differs.sum())
    own = len(modes) > 2 and modes[2]
    if own:
        assert (segment_map != 0).sum() <= table[:, 4].sum() <= size[0] * size[1]
    else:
        assert int(table[:, 4].sum()) == (size[0] * size[1] if kept.any() else 0)
    if differs.any():
        masks = mask_logits[kept]
        if modes[0]:
            values = resized(masks, size, input_size, crop, between=torch.sigmoid)
        else:
            values = resized(masks, size, input_size, crop).sigmoid()
        weighted = values * expected[kept, 3].view(-1, 1, 1)
        best, winner = weighted.topk(2, dim=0)
        near = best[0] - best[1] < 1e-6
        if own:  # or the winner's value is at the threshold
            compared = weighted if modes[1] else values
            near |= (compared.gather(0, winner[:1])[0] - options["thresholds"][2]).abs() < 1e-6
        assert near[differs].all()
    return segment_map, table


@pytest.mark.parametrize("paint_own", [False, True])
@pytest.mark.parametrize("weighted_area", [False, True])
@pytest.mark.parametrize("probabilities_first", [False, True])
@pytest.mark.parametrize("case", RESIZES, ids=str)
def test_maps_and_tables(kernels, case, probabilities_first, weighted_area, paint_own):
    shape, *arguments = case
    class_logits, mask_logits = with_broken_queries(*confident_predictions(12, 6, shape, seed=3))
    modes = (probabilities_first, weighted_area, paint_own)
    _, table = compare(kernels, class_logits, mask_logits, *arguments, modes=modes)
    assert (table[-4:] == 0).all() and (table[:, 0] > 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("probabilities_first", [False, True])
def test_half_precision_and_strides(kernels, dtype, probabilities_first):
    class_logits, mask_logits = confident_predictions(9, 4, (22, 30), seed=1)
    mask_logits = mask_logits.to(dtype)
    for logits in (mask_logits, mask_logits[:, ::2], mask_logits.mT):
        for more in ((), ((40, 50), (33, 50))):
            compare(kernels, class_logits, logits, (45, 70), *more, modes=(probabilities_first, False))


def test_more_queries_than_lanes_and_several_blocks(kernels):
    class_logits, mask_logits = confident_predictions(90, 5, (16, 24), seed=2)
    for modes in ((False, False), (True, True), (False, False, True)):
        _, table = compare(kernels, class_logits, mask_logits, (70, 75), modes=modes, thresholds=(0.2, 0.01, 0.5))
        assert (table[:, 3] > 0).sum() > 64
    noise = torch.randn(70, 8, 8)  # many winners among neighbours
    for modes in ((False, False), (False, True, True)):
        compare(kernels, class_logits[:70], noise, (33, 40), modes=modes, thresholds=(0.2, 0.0, 0.5))


@pytest.mark.parametrize("probabilities_first", [False, True])
@pytest.mark.parametrize("sizes", [((30, 70),), ((19, 41), (28, 36), (25, 33)), ((5, 40),)], ids=str)
def test_no_peak_is_left_out(kernels, sizes, probabilities_first):
    class_logits = torch.zeros(35, 4)
    class_logits[:, 1] = torch.linspace(3, 6, 35)
    compare(kernels, class_logits, peaks(5, 7), *sizes, modes=(probabilities_first, False), things=(1,))


def test_stuff_joins_and_things_do_not(kernels):
    class_logits = torch.full((5, 3), -9.0)
    for query, category in enumerate((0, 1, 0, 1, 2)):
        class_logits[query, category] = 9.0
    mask_logits = torch.full((5, 4, 10), -9.0)
    for query in range(5):
        mask_logits[query, :, 2 * query : 2 * query + 2] = 9.0
    segment_map, table = compare(kernels, class_logits, mask_logits, (4, 10), things=(1,))
    assert table[:, 0].tolist() == [1, 2, 1, 3, 0]
    assert segment_map[0, :8].tolist() == [1, 1, 2, 2, 1, 1, 3, 3]
    compare(kernels, class_logits, mask_logits, (4, 10), things=(-5, 1, 77))


def test_nothing_kept_and_no_queries(kernels):
    class_logits, mask_logits = confident_predictions(6, 4, (8, 9))
    for queries in (6, 0):
        arguments = (class_logits[:queries], mask_logits[:queries], (20, 33))
        segment_map, table = compare(kernels, *arguments, thresholds=(1.5, 0.8, 0.5))
        assert (segment_map == 0).all() and (table == 0).all()


@pytest.mark.parametrize("number", [float("-inf"), float("nan")])
def test_a_pixel_that_no_query_has_is_not_painted(kernels, number):
    probability = torch.tensor([[0.9, 0.0, 0.1], [0.0, 0.8, 0.2]])
    mask_logits = torch.full((2, 6, 40), 3.0)
    mask_logits[:, 2, 5] = number
    modes = (False, False, True, True)  # resized logits as they are, and winners paint their own pixels only
    arguments = (probability, mask_logits, (6, 40), [0, 1], 0.5, 0.3, 0.5, None, None, *modes)
    segment_map, table, count = kernels.native.panoptic_inference(*arguments)
    assert count == 1 and segment_map[2, 5] == 0
    segment_map[1:4, 4:7] = 1  # neighbours may read the pixel with weight 0
    assert (segment_map == 1).all() and 6 * 40 - 9 <= table[0, 4] < 6 * 40


@pytest.mark.cuda_kernels
def test_thing_classes_that_do_not_fit_are_refused(kernels):
    with pytest.raises(RuntimeError, match="thing_classes must be below 16384 on CUDA, got 16384"):
        kernels.native.panoptic_inference(
            torch.rand(1, 20000), torch.randn(1, 3, 3), (4, 4), [16384], 0.8, 0.8, 0.5, None, None, False, False
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("area", ["probability", "weighted"])
@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_segments_equal_the_cpus(kernels, sizes, resize, area, dtype):
    sizes = sizes if not kernels.slow else {key: (a // 4, b // 4) for key, (a, b) in sizes.items()}
    queries = 50 if not kernels.slow else 20
    class_logits, mask_logits = with_broken_queries(*confident_predictions(queries, 7, (32, 48)))
    options = sizes | {"thing_classes": range(4), "overlap_threshold": 0.3, "resize": resize, "area": area}
    given = class_logits, mask_logits.to(dtype)
    found, found_facts = kernels.panoptic_inference(*given, **options)
    with kernels.of_the_cpu():
        expected, facts = panoptic_inference(*given, **options)
    assert (found != expected).float().mean() < 1e-4
    assert [(f["id"], f["category_id"]) for f in found_facts] == [(f["id"], f["category_id"]) for f in facts]


@pytest.mark.gpu
def test_the_native_op_never_waits():
    probability = torch.rand(30, 8, device="cuda").softmax(-1)
    mask_logits = torch.randn(30, 32, 48, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for modes in ((False, False), (True, True)):
            arguments = ([0, 1], 0.1, 0.2, 0.5, (64, 96), (60, 90), *modes)
            result = torch.ops.maskformer_ext.panoptic_inference(probability, mask_logits, (120, 180), *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result[0].shape == (120, 180)
