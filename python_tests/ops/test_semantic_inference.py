"""semantic_inference and semantic_scores: golden maps, the plain composition, transformers, memory, bad input."""

import importlib
import resource
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import at_thread_counts
from predictions import (
    confident_predictions,
    golden_functions,
    golden_predictions,
    transformers_outputs,
    with_broken_queries,
)

from maskformer_ext.ops import semantic_inference, semantic_scores

rows = importlib.import_module("maskformer_ext.ops.support.rows")


def composed_scores(class_logits, mask_logits, size, *, input_size=None, crop=None, flip=False, resize="logits"):
    """Whole maps at once, as the original composes them."""

    def resized(maps, to):
        return F.interpolate(maps[None], size=tuple(to), mode="bilinear", align_corners=False)[0]

    def scores(masks):
        return torch.einsum("qk,qhw->khw", class_logits.softmax(-1)[:, :-1], masks.sigmoid())

    maps = mask_logits if input_size is None else resized(mask_logits, input_size)
    if resize == "scores":
        maps = scores(maps)
    if crop is not None:
        maps = maps[:, : crop[0], : crop[1]]
    maps = resized(maps, size)
    if resize == "logits":
        maps = scores(maps)
    return maps.flip(-1) if flip else maps


def test_golden_maps_and_scores(golden_dir):
    golden = golden_functions(golden_dir)
    predictions = golden_predictions(golden_dir)
    assert len(predictions) == 13
    for p in predictions:
        scores = semantic_scores(p.class_logits, p.mask_logits, p.size, **p.sizes)
        assert list(scores.shape) == p.sem_seg["shape"]
        values = scores.numpy().ravel()
        sampled = values[golden.golden_indices(f"{p.name}/sem_seg", values.size, p.seed)]
        np.testing.assert_allclose(sampled, p.arrays[f"{p.name}/sem_seg"], rtol=0, atol=1e-5)
        sums = p.arrays.get(f"{p.name}/sem_seg_class_sums")
        if sums is not None:
            np.testing.assert_allclose(scores.double().sum((1, 2)).numpy(), sums, rtol=1e-5)
        labels = semantic_inference(p.class_logits, p.mask_logits, p.size, **p.sizes)
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(labels.numpy(), p.arrays[f"{p.name}/sem_seg_argmax"])


@pytest.mark.parametrize("resize", ["logits", "scores"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("prediction", "size", "input_size", "crop"),
    [
        ((16, 24), (64, 96), None, None),
        ((16, 24), (64, 96), (64, 96), (50, 90)),
        ((16, 24), (33, 47), (64, 96), (64, 61)),
        ((40, 30), (13, 17), None, None),
        ((7, 5), (7, 5), None, None),
        ((1, 1), (5, 3), None, None),
        ((1, 9), (1, 33), (4, 36), (1, 36)),
        ((9, 1), (30, 1), (36, 4), (35, 1)),
        ((8, 8), (100, 3), (32, 32), (1, 1)),
    ],
)
def test_streaming_equals_the_whole_composition(resize, flip, prediction, size, input_size, crop, monkeypatch):
    class_logits, mask_logits = confident_predictions(11, 5, prediction)
    options = dict(input_size=input_size, crop=crop, flip=flip, resize=resize)
    expected = composed_scores(class_logits, mask_logits, size, **options)
    for band in (1, 300, 1 << 20):
        monkeypatch.setattr(rows, "_BAND_ELEMENTS", band)
        scores = semantic_scores(class_logits, mask_logits, size, **options)
        torch.testing.assert_close(scores, expected, rtol=0, atol=2e-5)
        labels = semantic_inference(class_logits, mask_logits, size, **options)
        margin = scores.gather(0, labels[None])[0] - expected.amax(0)
        assert margin.abs().max() <= 2e-5


def test_equals_transformers_semantic_post_processing():
    transformers = pytest.importorskip("transformers")
    processor = transformers.MaskFormerImageProcessor()
    class_logits, mask_logits = confident_predictions(20, 12, (24, 32))
    outputs = transformers_outputs(class_logits, mask_logits)
    for size in ((96, 128), (50, 61), (24, 32), (10, 90)):
        (peer,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
        for input_size in ((24, 32), None):
            ours = semantic_inference(class_logits, mask_logits, size, input_size=input_size, resize="scores")
            assert (ours != peer).float().mean() <= 1e-4


def test_scores_accumulate_with_weights():
    class_logits, mask_logits = confident_predictions(9, 4, (12, 16))
    size = (31, 45)
    plain = semantic_scores(class_logits, mask_logits, size)
    mirrored = semantic_scores(class_logits, mask_logits.flip(-1), size, flip=True)
    torch.testing.assert_close(mirrored, plain)
    out = torch.ones_like(plain)
    returned = semantic_scores(class_logits, mask_logits, size, out=out, weight=0.25)
    assert returned is out
    torch.testing.assert_close(out, 1 + 0.25 * plain)


def test_broken_queries_count_as_absent():
    class_logits, mask_logits = confident_predictions(9, 4, (12, 16))
    broken = with_broken_queries(class_logits, mask_logits)
    for resize in ("logits", "scores"):
        expected = semantic_scores(class_logits, mask_logits, (31, 45), resize=resize)
        torch.testing.assert_close(semantic_scores(*broken, (31, 45), resize=resize), expected)
    broken_classes, broken_masks = (tensor[-4:] for tensor in broken)
    assert (semantic_inference(broken_classes, broken_masks, (31, 45)) == 0).all()
    nothing = semantic_inference(class_logits[:0], mask_logits[:0], (31, 45))
    assert nothing.shape == (31, 45)
    assert (nothing == 0).all()


def test_ties_go_to_the_lower_class():
    class_logits = torch.tensor([[0.0, 3.0, 3.0, 0.0]])
    assert (semantic_inference(class_logits, torch.ones(1, 2, 2), (5, 5)) == 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    class_logits, mask_logits = confident_predictions(9, 4, (12, 16))
    class_logits, mask_logits = class_logits.to(dtype), mask_logits.to(dtype)
    scores = semantic_scores(class_logits, mask_logits.float(), (31, 45))
    assert scores.dtype == torch.float32
    expected = composed_scores(class_logits.double(), mask_logits.double(), (31, 45))
    torch.testing.assert_close(
        semantic_scores(class_logits, mask_logits, (31, 45)).double(), expected, rtol=0, atol=1e-5
    )
    labels = semantic_inference(class_logits, mask_logits, (31, 45))
    assert (labels != expected.argmax(0)).float().mean() <= 2e-3


def test_memory_does_not_grow_with_the_number_of_queries_times_the_area():
    class_logits, mask_logits = confident_predictions(100, 20, (64, 128))
    semantic_inference(class_logits, mask_logits, (64, 128))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    semantic_inference(class_logits, mask_logits, (1024, 2048))  # 840 MB of masks, 17 MB of labels
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, "size must be"),
        ({"size": (4,)}, "size must be"),
        ({"crop": (3, 3)}, "crop is in pixels of input_size"),
        ({"crop": (9, 3), "input_size": (8, 8)}, "crop must lie inside input_size"),
        ({"resize": "probabilities"}, "resize must be one of logits, scores"),
        ({"class_logits": torch.zeros(4, 3)}, r"class_logits must be \(Q, K \+ 1\) with Q = 3"),
        ({"mask_logits": torch.zeros(1, 3, 4, 4)}, r"mask_logits must be \(Q, h, w\)"),
    ],
)
def test_misfitting_arguments_are_named(options, message):
    arguments = {"class_logits": torch.zeros(3, 3), "mask_logits": torch.zeros(3, 4, 4), "size": (8, 8), **options}
    for function in (semantic_inference, semantic_scores):
        with pytest.raises(ValueError, match=message):
            function(**arguments)


def test_out_must_fit():
    with pytest.raises(ValueError, match=r"out must be \(K, H, W\) = \(2, 8, 8\)"):
        semantic_scores(torch.zeros(3, 3), torch.zeros(3, 4, 4), (8, 8), out=torch.zeros(3, 8, 8))
    with pytest.raises(TypeError, match="out must be float32"):
        semantic_scores(torch.zeros(3, 3), torch.zeros(3, 4, 4), (8, 8), out=torch.zeros(2, 8, 8).double())
    with pytest.raises(TypeError, match="mask_logits must have a floating dtype"):
        semantic_inference(torch.zeros(3, 3), torch.zeros(3, 4, 4).int(), (8, 8))


def test_opcheck():
    class_logits, mask_logits = confident_predictions(5, 4, (12, 16))
    sizes = ((31, 45), (48, 64), (40, 60), True)
    ops, out = torch.ops.maskformer_ext, torch.zeros(4, 31, 45)
    probability = class_logits.softmax(-1)[:, :-1].contiguous()
    torch.library.opcheck(ops.semantic_inference, (probability, mask_logits, *sizes, True))
    torch.library.opcheck(ops.semantic_scores, (probability, mask_logits, out, *sizes, False, 0.5))
    torch.library.opcheck(ops.semantic_inference_reference, (class_logits, mask_logits, *sizes, "scores"))
    torch.library.opcheck(ops.semantic_scores_reference, (class_logits, mask_logits, out, *sizes, "logits", 0.5))


def test_kernel_agrees_with_the_reference():
    """Compare with the float64 reference over sizes that cut vectors and tiles, dtypes and strides."""
    for seed, (queries, classes, prediction, size, input_size, crop) in enumerate(
        [
            (7, 1, (9, 11), (40, 67), None, None),
            (20, 13, (16, 24), (64, 130), (64, 96), (61, 90)),
            (33, 6, (20, 33), (9, 7), None, None),
            (5, 7, (12, 18), (30, 31), (6, 9), (5, 8)),
            (4, 25, (3, 300), (2, 17), None, None),
        ]
    ):
        class_logits, mask_logits = confident_predictions(queries, classes, prediction, seed=seed)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            classes_, masks_ = class_logits.to(dtype), mask_logits.to(dtype)
            for masks in (masks_, masks_.mT.contiguous().mT, masks_.repeat_interleave(2, 1)[:, ::2]):
                for resize in ("logits", "scores"):
                    flip = seed % 2 == 1
                    options: dict[str, Any] = dict(input_size=input_size, crop=crop, flip=flip, resize=resize)
                    expected = semantic_scores(classes_.double(), masks.double(), size, **options)
                    scores = semantic_scores(classes_, masks, size, **options)
                    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
                    labels = semantic_inference(classes_, masks, size, **options)
                    assert torch.equal(labels, scores.argmax(0))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.floats(0, 20),
    st.floats(0.1, 12),
    st.integers(1, 40),
    st.tuples(*[st.integers(1, 150)] * 2),
)
def test_leaving_out_queries_changes_no_label(seed, sharpness, scale, queries, size):
    """The labels skip what cannot matter; the scores never do."""
    class_logits, mask_logits = confident_predictions(queries, 6, (11, 13), seed=seed, sharpness=sharpness)
    mask_logits = mask_logits * (scale / 20)
    scores = semantic_scores(class_logits, mask_logits, size)
    assert torch.equal(semantic_inference(class_logits, mask_logits, size), scores.argmax(0))


def _logits(queries, classes, size, spread, kind, seed):
    """Draw class and mask logits, of a kind that fixed-point scores may get wrong."""
    torch.manual_seed(seed)
    class_logits, mask_logits = 3 * torch.randn(queries, classes + 1), spread * torch.randn(queries, *size)
    if kind == "near ties":
        class_logits[:, 1:classes] = class_logits[:, :1] * (1 + 1e-6 * torch.randn(queries, classes - 1))
    elif kind == "equal classes":
        class_logits[:, :classes] = class_logits[:, torch.randint(classes, (classes,))]
    elif kind == "tiny":
        class_logits[:, -1] += 30
    elif kind == "one query":
        class_logits = class_logits[:1] + 1e-6 * torch.randn(queries, classes + 1)
    elif kind == "broken":
        class_logits[-1, 0], mask_logits[0, 0, 0] = torch.nan, torch.inf
    return class_logits, mask_logits


@settings(deadline=None, max_examples=120)
@given(
    queries=st.one_of(st.integers(1, 30), st.integers(100, 300)),
    classes=st.one_of(st.integers(1, 40), st.integers(150, 900)),
    prediction=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 30), st.integers(1, 150)),
    input_size=st.one_of(st.none(), st.tuples(st.integers(1, 30), st.integers(1, 60))),
    spread=st.sampled_from([1e-4, 0.3, 3.0, 12.0, 100.0, 1e4, 1e30]),
    kind=st.sampled_from(["random", "near ties", "equal classes", "tiny", "one query", "broken"]),
    seed=st.integers(0, 1000),
)
def test_labels_are_those_of_the_whole_float_sum(queries, classes, prediction, size, input_size, spread, kind, seed):
    """Whatever bounds and integers leave out, near ties included."""
    class_logits, mask_logits = _logits(queries, classes, prediction, spread, kind, seed)
    options = dict(input_size=input_size, flip=seed % 2 == 1)
    scores = semantic_scores(class_logits, mask_logits, size, **options)
    assert torch.equal(semantic_inference(class_logits, mask_logits, size, **options), scores.argmax(0))


def test_same_bits_for_any_number_of_threads():
    class_logits, mask_logits = confident_predictions(9, 4, (40, 50))
    for resize in ("logits", "scores"):
        at_thread_counts(partial(semantic_scores, class_logits, mask_logits, (123, 177), resize=resize))
        at_thread_counts(partial(semantic_inference, class_logits, mask_logits, (123, 177), resize=resize))


def test_compiles_without_graph_breaks():
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def labels(class_logits, mask_logits):
        height, width = mask_logits.shape[-2:]
        return semantic_inference(class_logits, mask_logits, (4 * height, 4 * width)) + 1

    for size in ((8, 12), (10, 9)):
        class_logits, mask_logits = confident_predictions(5, 4, size)
        expected = semantic_inference(class_logits, mask_logits, (4 * size[0], 4 * size[1])) + 1
        assert torch.equal(labels(class_logits, mask_logits), expected)


@settings(deadline=None, max_examples=50)
@given(
    queries=st.integers(0, 25),
    prediction=st.tuples(st.integers(1, 20), st.integers(1, 24)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 130)),
    input_size=st.one_of(st.none(), st.tuples(st.integers(1, 60), st.integers(1, 60))),
    flip=st.booleans(),
    resize=st.sampled_from(["logits", "scores"]),
    seed=st.integers(0, 1000),
)
def test_scores_of_any_sizes_are_close_to_float64(queries, prediction, size, input_size, flip, resize, seed):
    class_logits, mask_logits = confident_predictions(queries, 5, prediction, seed=seed)
    options = dict(input_size=input_size, flip=flip, resize=resize)
    if input_size is not None:
        options["crop"] = (1 + input_size[0] // 2, 1 + (input_size[1] - 1) // 2)
    scores = semantic_scores(class_logits, mask_logits, size, **options)
    expected = semantic_scores(class_logits.double(), mask_logits.double(), size, **options)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5, check_dtype=False)
    assert torch.equal(semantic_inference(class_logits, mask_logits, size, **options), scores.argmax(0))
