"""panoptic_inference: golden maps, transformers' variant, merging rules, bad input."""

import importlib
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import at_thread_counts
from predictions import confident_predictions, golden_predictions, transformers_outputs, with_broken_queries

from maskformer_ext.ops import panoptic_inference

rows = importlib.import_module("maskformer_ext.ops.support.rows")


def table_of(class_logits, mask_logits, size, *, things, threshold, overlap, resize, area, mask_threshold=0.5):
    probability = class_logits.float().softmax(-1)
    arguments = (things, threshold, overlap, mask_threshold, None, None, resize == "probabilities", area == "weighted")
    return torch.ops.maskformer_ext.panoptic_inference(probability, mask_logits, size, *arguments)


def test_golden_maps_and_segments(golden_dir):
    compared = 0
    for p in golden_predictions(golden_dir):
        expected = p.arrays.get(f"{p.name}/panoptic_seg")
        if expected is None:
            continue
        segment_map, segments_info = panoptic_inference(
            p.class_logits,
            p.mask_logits,
            p.size,
            thing_classes=p.thing_classes,
            object_mask_threshold=p.case["object_mask_threshold"],
            overlap_threshold=p.case["overlap_threshold"],
            **p.sizes,
        )
        assert segment_map.dtype == torch.int32
        np.testing.assert_array_equal(segment_map.numpy(), expected)
        facts = [{key: entry[key] for key in ("id", "isthing", "category_id")} for entry in segments_info]
        assert facts == p.segments_info
        for entry in segments_info:
            assert entry["area"] == int((segment_map == entry["id"]).sum())
        compared += 1
    assert compared == 8


def test_golden_query_scores_and_areas(golden_dir):
    for p in golden_predictions(golden_dir):
        if "kept_queries" not in p.case:
            continue
        _, table, _ = table_of(
            p.class_logits,
            p.mask_logits,
            p.size,
            things=p.thing_classes,
            threshold=p.case["object_mask_threshold"],
            overlap=p.case["overlap_threshold"],
            resize="logits",
            area="probability",
        )
        kept = p.case["kept_queries"]
        assert (table[:, 3] > 0).nonzero().flatten().tolist() == [entry["query"] for entry in kept]
        for entry in kept:
            _, category, _, score, area = table[entry["query"]].tolist()
            assert (category, area) == (entry["category"], entry["mask_area"])
            assert score == pytest.approx(entry["score"], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(96, 128), (61, 50), (24, 32), (10, 90)])
def test_equals_transformers_panoptic_post_processing(seed, size):
    transformers = pytest.importorskip("transformers")
    processor = transformers.MaskFormerImageProcessor()
    class_logits, mask_logits = confident_predictions(25, 6, (24, 32), seed=seed)
    stuff = {3, 4, 5}
    (peer,) = processor.post_process_panoptic_segmentation(
        transformers_outputs(class_logits, mask_logits),
        threshold=0.8,
        overlap_mask_area_threshold=0.1,
        label_ids_to_fuse=stuff,
        target_sizes=[size],
    )
    segment_map, table, count = table_of(
        class_logits,
        mask_logits,
        size,
        things=[0, 1, 2],
        threshold=0.8,
        overlap=0.1,
        resize="probabilities",
        area="weighted",
    )
    accepted = table[table[:, 0] > 0]
    assert accepted[:, 1].tolist() == [entry["label_id"] for entry in peer["segments_info"]]
    assert [round(score, 6) for score in accepted[:, 3].tolist()] == [entry["score"] for entry in peer["segments_info"]]
    # transformers may use a number twice after a fused segment; ours are its numbers through this table.
    theirs = torch.zeros(int(count) + 1, dtype=torch.int64)
    for ours, entry in zip(accepted[:, 0].long().tolist(), peer["segments_info"], strict=True):
        theirs[ours] = entry["id"]
    assert (theirs[segment_map.long()] != peer["segmentation"]).float().mean() <= 1e-4
    assert len(accepted) > 1


def whole(class_logits, mask_logits, size, things, *, input_size, crop, resize):
    """The original's steps on whole maps, for areas and winners at the default thresholds."""

    def resized(maps, to):
        return F.interpolate(maps[None], size=tuple(to), mode="bilinear", align_corners=False)[0]

    score, category = class_logits.softmax(-1).max(-1)
    kept = (category < class_logits.shape[1] - 1) & (score > 0.8)
    masks = mask_logits[kept]
    masks = masks if input_size is None else resized(masks, input_size)
    masks = masks.sigmoid() if resize == "probabilities" else masks
    masks = masks if crop is None else masks[:, : crop[0], : crop[1]]
    masks = resized(masks, size)
    masks = masks if resize == "probabilities" else masks.sigmoid()
    winner = (masks * score[kept].view(-1, 1, 1)).argmax(0)
    segment_map, stuff, count = torch.zeros(size, dtype=torch.int32), {}, 0
    for query, label in enumerate(category[kept].tolist()):
        won, own = (winner == query), masks[query] >= 0.5
        if not won.any() or not own.any() or int(won.sum()) / int(own.sum()) < 0.8:
            continue
        if label in things or label not in stuff:
            count += 1
            number = count
            if label not in things:
                stuff[label] = count
        else:
            number = stuff[label]
        segment_map[won] = number
    return segment_map


@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("size", "input_size", "crop"),
    [((64, 96), None, None), ((33, 47), (64, 96), (64, 61)), ((100, 9), (64, 96), (1, 96)), ((16, 24), None, None)],
)
def test_streaming_equals_the_whole_composition(resize, size, input_size, crop, monkeypatch):
    for seed in range(3):
        class_logits, mask_logits = confident_predictions(20, 5, (16, 24), seed=seed)
        options = dict(input_size=input_size, crop=crop, resize=resize)
        expected = whole(class_logits, mask_logits, size, {0, 1}, **options)
        for band in (1, 1 << 20):
            monkeypatch.setattr(rows, "_BAND_ELEMENTS", band)
            ours, _ = panoptic_inference(class_logits, mask_logits, size, thing_classes=[0, 1], **options)
            assert (ours != expected).float().mean() <= 1e-3


def halves(labels: list[int], classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertical stripes, one a label, each a confident query."""
    class_logits = torch.full((len(labels), classes + 1), -9.0)
    class_logits[torch.arange(len(labels)), labels] = 9.0
    mask_logits = torch.full((len(labels), 4, 4 * len(labels)), -9.0)
    for query in range(len(labels)):
        mask_logits[query, :, 4 * query : 4 * query + 4] = 9.0
    return class_logits, mask_logits


def test_stuff_merges_and_things_do_not():
    class_logits, mask_logits = halves([2, 0, 2, 0, 2])
    segment_map, info = panoptic_inference(class_logits, mask_logits, (4, 20), thing_classes={0})
    assert segment_map[0, ::4].tolist() == [1, 2, 1, 3, 1]
    assert [(entry["id"], entry["category_id"], entry["isthing"]) for entry in info] == [
        (1, 2, False),
        (2, 0, True),
        (3, 0, True),
    ]
    assert sum(entry["area"] for entry in info) == int((segment_map > 0).sum())
    json.dumps(info)


def test_a_dropped_stuff_mask_is_not_remembered():
    class_logits, mask_logits = halves([1, 1])
    small = torch.full_like(mask_logits[:1], -9.0)
    small[0, :, 4:] = 8.0  # wins nothing, its own area is the second stripe
    class_logits = torch.cat([class_logits[:1] * 0.5, class_logits])
    segment_map, info = panoptic_inference(class_logits, torch.cat([small, mask_logits]), (4, 8), thing_classes=())
    assert segment_map.unique().tolist() == [1]
    assert len(info) == 1
    assert info[0]["score"] > 0.999


def test_own_paints_only_what_the_winner_has():
    class_logits, mask_logits = halves([2, 0, 2])
    mask_logits[0, :, 2:4] = -1.0  # won, as the others are lower, and not had
    options: dict[str, Any] = dict(thing_classes={0}, overlap_threshold=0.5)
    segment_map, info = panoptic_inference(class_logits, mask_logits, (4, 12), paint="own", **options)
    assert segment_map[0].tolist() == [1, 1, 0, 0, 2, 2, 2, 2, 1, 1, 1, 1]
    assert [(entry["id"], entry["area"]) for entry in info] == [(1, 24), (2, 16)]
    segment_map, _ = panoptic_inference(class_logits, mask_logits, (4, 12), **options)
    assert segment_map[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1]


def test_own_needs_more_than_the_threshold_and_a_pixel_to_paint():
    class_logits, mask_logits = halves([0, 1])
    class_logits[0] *= 0.5  # loses where both are sure
    mask_logits[0, :, 4:] = 9.0  # won / own is one half
    for overlap, most in ((0.5, [2]), (0.49, [1, 2])):
        _, info = panoptic_inference(
            class_logits,
            mask_logits,
            (4, 8),
            thing_classes={0, 1},
            paint="own",
            overlap_threshold=overlap,
            object_mask_threshold=0.5,
        )
        assert [entry["category_id"] + 1 for entry in info] == most
    mask_logits = mask_logits.fill_(-9.0)
    mask_logits[0, :, :4] = -1.0  # wins all of the left, has none of it
    mask_logits[0, :, 4:] = 1.0  # has all of the right, wins none of it
    mask_logits[1, :, 4:] = 9.0
    _, info = panoptic_inference(class_logits, mask_logits, (4, 8), thing_classes=(), paint="own")
    assert [entry["category_id"] for entry in info] == [1]


def test_broken_queries_count_as_absent():
    class_logits, mask_logits = confident_predictions(12, 4, (16, 16), seed=3)
    expected, expected_info = panoptic_inference(class_logits, mask_logits, (40, 40), thing_classes=[0])
    broken, info = panoptic_inference(*with_broken_queries(class_logits, mask_logits), (40, 40), thing_classes=[0])
    assert torch.equal(broken, expected)
    assert info == expected_info


def test_nothing_kept():
    for queries in (0, 3):
        segment_map, info = panoptic_inference(
            torch.zeros(queries, 5), torch.zeros(queries, 4, 4), (9, 7), thing_classes=[0]
        )
        assert segment_map.shape == (9, 7)
        assert (segment_map == 0).all()
        assert info == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    class_logits, mask_logits = (tensor.to(dtype) for tensor in confident_predictions(12, 4, (16, 16), seed=3))
    ours, info = panoptic_inference(class_logits, mask_logits, (40, 40), thing_classes=[0])
    expected, expected_info = panoptic_inference(class_logits.float(), mask_logits.float(), (40, 40), thing_classes=[0])
    assert (ours != expected).float().mean() <= 1e-3
    assert len(info) == len(expected_info)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "scores"}, "resize must be one of logits, probabilities"),
        ({"area": "own"}, "area must be one of probability, weighted"),
        ({"paint": "all"}, "paint must be one of won, own"),
        ({"crop": (3, 3)}, "crop is in pixels of input_size"),
    ],
)
def test_misfitting_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        panoptic_inference(torch.zeros(3, 3), torch.zeros(3, 4, 4), (8, 8), thing_classes=[], **options)


def test_opcheck_of_the_reference():
    class_logits, mask_logits = confident_predictions(12, 4, (16, 16), seed=3)
    options = ((40, 40), [0, 1], 0.8, 0.8, 0.5, (64, 64), (60, 50))
    ops = torch.ops.maskformer_ext
    reference = (class_logits, mask_logits, *options, "logits", "probability")
    torch.library.opcheck(ops.panoptic_inference_reference, reference)


def test_kernel_agrees_with_the_reference():
    """Compare with the PyTorch reference over sizes that cut vectors and tiles, dtypes, strides and modes."""
    for seed, (queries, prediction, size, input_size, crop) in enumerate(
        [
            (17, (16, 24), (64, 130), (64, 96), (61, 90)),
            (9, (9, 11), (40, 67), None, None),
            (30, (20, 33), (9, 7), None, None),
            (12, (12, 18), (30, 31), (6, 9), (5, 8)),
        ]
    ):
        class_logits, mask_logits = confident_predictions(queries, 5, prediction, seed=seed)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            given = class_logits.to(dtype), mask_logits.to(dtype).mT.contiguous().mT
            choices = (("logits", "probabilities"), ("probability", "weighted"), ("won", "own"))
            for resize, area, paint in itertools.product(*choices):
                thresholds = (0.5, 0.2, 0.5)
                args = (size, [0, 2], *thresholds, input_size, crop)
                ops = torch.ops.maskformer_ext
                expected, table, count = ops.panoptic_inference_reference(*given, *args, resize, area, paint)
                probability = given[0].float().softmax(-1)
                modes = (resize == "probabilities", area == "weighted", paint == "own")
                found = ops.panoptic_inference(probability, given[1], *args, *modes)
                assert (found[0] != expected).float().mean() <= 1e-3  # a pixel may change sides by rounding
                assert found[2] == count and count > 0
                assert torch.equal(found[1][:, :3], table[:, :3])
                torch.testing.assert_close(found[1][:, 3:], table[:, 3:], rtol=2e-3, atol=1)


def test_same_bits_for_any_number_of_threads():
    class_logits, mask_logits = confident_predictions(9, 4, (40, 50))

    def run():
        segment_map, segments = panoptic_inference(class_logits, mask_logits, (223, 177), thing_classes=[0, 2])
        return segment_map, torch.tensor([[s["id"], s["category_id"], s["score"], s["area"]] for s in segments])

    at_thread_counts(run)


@given(
    queries=st.integers(0, 25),
    prediction=st.tuples(st.integers(1, 20), st.integers(1, 24)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 130)),
    resize=st.sampled_from(["logits", "probabilities"]),
    area=st.sampled_from(["probability", "weighted"]),
    paint=st.sampled_from(["won", "own"]),
    threshold=st.sampled_from([0.0, 0.5, 0.8]),
    overlap=st.sampled_from([0.0, 0.3, 0.8]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_any_sizes_agree_with_the_reference(queries, prediction, size, resize, area, paint, threshold, overlap, seed):
    class_logits, mask_logits = confident_predictions(queries, 5, prediction, seed=seed)
    options = dict(
        thing_classes=[0, 2],
        object_mask_threshold=threshold,
        overlap_threshold=overlap,
        resize=resize,
        area=area,
        paint=paint,
    )
    segment_map, segments = panoptic_inference(class_logits, mask_logits, size, **options)
    expected, infos = panoptic_inference(class_logits.double(), mask_logits.double(), size, **options)
    ids = [segment["id"] for segment in segments]
    assert ids == sorted(set(ids)), "one entry a segment, in the order of ids"
    assert set(segment_map.unique().tolist()) <= {0, *ids}
    assert [segment["area"] for segment in segments] == [int((segment_map == number).sum()) for number in ids]
    # A pixel on the edge of two segments, or a segment on the edge of a threshold, may fall either way.
    if [s["category_id"] for s in segments] == [s["category_id"] for s in infos]:
        assert (segment_map != expected).sum() <= max(1, 2e-3 * segment_map.numel())
    else:
        assert len(set(range(1, 1 + max(len(segments), len(infos))))) - min(len(segments), len(infos)) <= 1
