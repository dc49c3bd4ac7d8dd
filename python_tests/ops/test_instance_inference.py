"""instance_inference: the plain composition, transformers' variant, run lengths as pycocotools', bad input."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import at_thread_counts
from predictions import confident_predictions, transformers_outputs, with_broken_queries

from maskformer_ext.ops import Instances, instance_inference

rows = importlib.import_module("maskformer_ext.ops.support.rows")


def composed(class_logits, mask_logits, size, *, top_k, things=None, threshold=0.5, input_size=None, crop=None):
    """Whole maps at once: (score, label, mask) of each instance."""

    def resized(maps, to):
        return F.interpolate(maps[None], size=tuple(to), mode="bilinear", align_corners=False)[0]

    maps = mask_logits if input_size is None else resized(mask_logits, input_size)
    maps = maps if crop is None else maps[:, : crop[0], : crop[1]]
    maps = resized(maps, size)
    probability = class_logits.softmax(-1)[:, :-1]
    order = sorted(
        (-float(probability[q, k]), q * probability.shape[1] + k)
        for q in range(len(maps))
        for k in range(probability.shape[1])
    )
    result = []
    for negative, index in order[:top_k]:
        query, label = divmod(index, probability.shape[1])
        mask = maps[query] > math.log(threshold / (1 - threshold))
        if mask.any() and (things is None or label in things):
            result.append((-negative * float(maps[query].sigmoid()[mask].mean()), label, mask))
    return result


@pytest.mark.parametrize(
    ("size", "input_size", "crop", "threshold", "things", "top_k"),
    [
        ((64, 96), None, None, 0.5, None, 20),
        ((33, 47), (64, 96), (64, 61), 0.5, [0, 2], 40),
        ((16, 24), None, None, 0.3, None, 1000),
        ((100, 9), (64, 96), (1, 96), 0.7, [1], 30),
        ((7, 5), None, None, 0.5, None, 5),
    ],
)
def test_streaming_equals_the_whole_composition(size, input_size, crop, threshold, things, top_k, monkeypatch):
    class_logits, mask_logits = confident_predictions(12, 4, (16, 24), sharpness=4.0)
    expected = composed(
        class_logits,
        mask_logits,
        size,
        top_k=top_k,
        things=things,
        threshold=threshold,
        input_size=input_size,
        crop=crop,
    )
    for band in (1, 1 << 20):
        monkeypatch.setattr(rows, "_BAND_ELEMENTS", band)
        ours = instance_inference(
            class_logits,
            mask_logits,
            size,
            top_k=top_k,
            thing_classes=things,
            mask_threshold=threshold,
            input_size=input_size,
            crop=crop,
        )
        assert len(ours) == len(expected)
        assert ours.labels.tolist() == [label for _, label, _ in expected]
        torch.testing.assert_close(ours.scores, torch.tensor([score for score, _, _ in expected]))
        masks = torch.stack([mask for _, _, mask in expected])
        assert ours.masks.shape == masks.shape
        assert (ours.masks != masks).float().mean() <= 1e-4
        for box, mask in zip(ours.boxes.tolist(), ours.masks, strict=True):
            y, x = mask.nonzero().T
            assert box == [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


@pytest.mark.parametrize("size", [(96, 128), (61, 50), (24, 32), (10, 90), (3, 3)])
def test_equals_transformers_instance_post_processing(size):
    transformers = pytest.importorskip("transformers")
    processor = transformers.MaskFormerImageProcessor()
    class_logits, mask_logits = confident_predictions(30, 5, (24, 32), sharpness=3.0)
    (peer,) = processor.post_process_instance_segmentation(
        transformers_outputs(class_logits, mask_logits), threshold=0.0, return_binary_maps=True, target_sizes=[size]
    )
    ours = instance_inference(class_logits, mask_logits, size, top_k=len(class_logits), resize="nearest")
    theirs = sorted(
        (-entry["score"], entry["label_id"], mask.bool().numpy().tobytes())
        for entry, mask in zip(peer["segments_info"], peer["segmentation"], strict=True)
    )
    mine = sorted(
        (-round(score, 6), label, mask.numpy().tobytes())
        for score, label, mask in zip(ours.scores.tolist(), ours.labels.tolist(), ours.masks, strict=True)
    )
    assert [entry[1:] for entry in mine] == [entry[1:] for entry in theirs]
    np.testing.assert_allclose([entry[0] for entry in mine], [entry[0] for entry in theirs], rtol=0, atol=2e-6)


def test_nearest_composes_with_the_padded_input():
    class_logits, mask_logits = confident_predictions(8, 3, (10, 12))
    ours = instance_inference(
        class_logits, mask_logits, (33, 47), top_k=8, input_size=(40, 48), crop=(37, 41), resize="nearest"
    )
    binary = (mask_logits > 0).float()[None]
    padded = F.interpolate(binary, size=(40, 48), mode="nearest")[:, :, :37, :41]
    expected = F.interpolate(padded, size=(33, 47), mode="nearest")[0].bool()
    assert len(ours) == 8
    for mask in ours.masks:
        assert any(torch.equal(mask, other) for other in expected)


def test_run_lengths_equal_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    for size in ((64, 96), (33, 47), (1, 40), (40, 1), (16, 8)):
        class_logits, mask_logits = confident_predictions(12, 4, (16, 24))
        mask_logits[3] = 5.0
        mask_logits[4, :, :12] = torch.randn(16, 12) * 5
        ours = instance_inference(class_logits, mask_logits, size, top_k=12)
        masks = np.asfortranarray(ours.masks.numpy().astype(np.uint8).transpose(1, 2, 0))
        expected = coco.encode(masks)
        assert [rle["counts"] for rle in ours.rle()] == [rle["counts"] for rle in expected]
        assert all(rle["size"] == list(size) for rle in ours.rle())


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), density=st.floats(0, 1), seed=st.integers(0, 1000))
def test_run_lengths_of_any_mask(height, width, density, seed):
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((1, height, width)) < density
    packed = torch.from_numpy(np.packbits(mask, axis=-1, bitorder="little"))
    box = torch.tensor([[0.0, 0.0, width, height]])
    instances = Instances(torch.ones(1), torch.zeros(1, dtype=torch.long), box, packed, (height, width))
    (rle,) = instances.rle()
    assert rle["counts"] == coco.encode(np.asfortranarray(mask[0].astype(np.uint8)))["counts"]
    assert np.array_equal(instances.masks.numpy(), mask)


def test_instances_can_be_selected():
    class_logits, mask_logits = confident_predictions(12, 4, (16, 24))
    ours = instance_inference(class_logits, mask_logits, (32, 48), top_k=12)
    best = ours[ours.scores > ours.scores.median()]
    assert 0 < len(best) < len(ours)
    assert torch.equal(best.masks, ours.masks[ours.scores > ours.scores.median()])
    assert torch.equal(ours[:2].boxes, ours.boxes[:2])


def test_ties_go_to_the_lower_index():
    instances = instance_inference(torch.zeros(3, 4), torch.ones(3, 2, 2), (4, 4), top_k=5)
    assert instances.labels.tolist() == [0, 1, 2, 0, 1]


def test_broken_queries_and_empty_masks_are_dropped():
    class_logits, mask_logits = confident_predictions(9, 4, (16, 16))
    mask_logits[2] = -5.0
    expected = instance_inference(class_logits, mask_logits, (40, 40), top_k=9 * 4)
    broken = with_broken_queries(class_logits, mask_logits)
    for resize in ("logits", "nearest"):
        assert len(instance_inference(broken[0][-4:], broken[1][-4:], (40, 40), resize=resize)) == 0
    ours = instance_inference(*broken, (40, 40), top_k=13 * 4)
    assert torch.equal(ours.scores, expected.scores)
    assert torch.equal(ours.packed_masks, expected.packed_masks)
    assert len(expected) == 8 * 4
    assert len(instance_inference(class_logits[:0], mask_logits[:0], (40, 40))) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("resize", ["logits", "nearest"])
def test_other_dtypes(dtype, resize):
    class_logits, mask_logits = (tensor.to(dtype) for tensor in confident_predictions(9, 4, (16, 16)))
    ours = instance_inference(class_logits, mask_logits, (40, 40), resize=resize)
    expected = instance_inference(class_logits.float(), mask_logits.float(), (40, 40), resize=resize)
    torch.testing.assert_close(ours.scores, expected.scores)
    assert (ours.masks != expected.masks).float().mean() <= 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "scores"}, "resize must be one of logits, nearest"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"mask_threshold": 1.5}, "mask_threshold must lie between 0 and 1"),
        ({"crop": (3, 3)}, "crop is in pixels of input_size"),
    ],
)
def test_misfitting_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        instance_inference(torch.zeros(3, 3), torch.zeros(3, 4, 4), (8, 8), **options)


def test_kernel_agrees_with_the_reference():
    """Compare with the float64 reference over sizes that cut vectors, bytes and blocks, dtypes and strides."""
    for seed, (prediction, size, input_size, crop) in enumerate(
        [
            ((16, 24), (150, 131), (64, 96), (61, 90)),
            ((9, 11), (40, 67), None, None),
            ((20, 33), (9, 7), None, None),
            ((3, 5), (5, 1), None, None),
        ]
    ):
        class_logits, mask_logits = confident_predictions(13, 4, prediction, seed=seed)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            classes, masks = class_logits.to(dtype), mask_logits.to(dtype).mT.contiguous().mT
            options: dict[str, Any] = dict(input_size=input_size, crop=crop, top_k=30)
            found = instance_inference(classes, masks, size, **options)
            expected = instance_inference(classes.double(), masks.double(), size, **options)
            assert torch.equal(found.labels, expected.labels)
            torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
            assert (found.masks != expected.masks).float().mean() <= 1e-4  # a pixel may change sides by rounding
            boxes = [[int(m.any(0).nonzero()[0]), int(m.any(1).nonzero()[0])] for m in found.masks]
            assert found.boxes[:, :2].tolist() == boxes
            ends = [[int(m.any(0).nonzero()[-1]) + 1, int(m.any(1).nonzero()[-1]) + 1] for m in found.masks]
            assert found.boxes[:, 2:].tolist() == ends


def test_same_bits_for_any_number_of_threads():
    class_logits, mask_logits = confident_predictions(9, 4, (40, 50))

    def run():
        found = instance_inference(class_logits, mask_logits, (223, 177))
        return found.scores, found.packed_masks

    at_thread_counts(run)


@given(
    queries=st.integers(0, 20),
    prediction=st.tuples(st.integers(1, 20), st.integers(1, 24)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 130)),
    resize=st.sampled_from(["logits", "nearest"]),
    top_k=st.integers(1, 60),
    threshold=st.sampled_from([0.2, 0.5]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_any_sizes_agree_with_float64(queries, prediction, size, resize, top_k, threshold, seed):
    class_logits, mask_logits = confident_predictions(queries, 4, prediction, seed=seed)
    options = dict(top_k=top_k, mask_threshold=threshold, resize=resize)
    found = instance_inference(class_logits, mask_logits, size, **options)
    expected = instance_inference(class_logits.double(), mask_logits.double(), size, **options)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert (found.masks != expected.masks).sum() <= max(1, 1e-3 * found.masks.numel())


@pytest.mark.parametrize("things", [None, [0, 2], []])
@pytest.mark.parametrize("resize", ["logits", "nearest"])
@pytest.mark.parametrize("top_k", [3, 10, 100])
def test_rows_carried_along_where_counting_would_wait_change_nothing(things, resize, top_k, monkeypatch):
    class_logits, mask_logits = confident_predictions(12, 4, (16, 24), seed=5)
    class_logits[3, 1] = torch.nan
    mask_logits[7, 2, 2] = torch.inf
    options = dict(top_k=top_k, thing_classes=things, resize=resize)
    expected = instance_inference(class_logits, mask_logits, (50, 70), **options)
    monkeypatch.setitem(instance_inference.__globals__, "_may_count", lambda device: False)
    found = instance_inference(class_logits, mask_logits, (50, 70), **options)
    for name in ("scores", "labels", "boxes", "packed_masks"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("things", [None, [0, 2], []])
@pytest.mark.parametrize("resize", ["logits", "nearest"])
@pytest.mark.parametrize("top_k", [3, 48])
@pytest.mark.parametrize("made_at_once", [1, 1000])
def test_masks_made_a_few_at_a_time_change_nothing(things, resize, top_k, made_at_once, monkeypatch):
    class_logits, mask_logits = confident_predictions(12, 4, (16, 24), seed=5)
    mask_logits[[2, 5]] = -9.0  # masks without a pixel, between others
    options = dict(top_k=top_k, thing_classes=things, resize=resize)
    expected = instance_inference(class_logits, mask_logits, (50, 70), **options)
    monkeypatch.setitem(instance_inference.__globals__, "_MASK_BYTES", made_at_once)
    found = instance_inference(class_logits, mask_logits, (50, 70), **options)
    for name in ("scores", "labels", "boxes", "packed_masks"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
