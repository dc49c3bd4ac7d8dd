"""The kernels of semantic_inference and semantic_scores against float64, and the public ops against the CPU's."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error
from predictions import confident_predictions, with_broken_queries
from resizes import INFERENCE_SIZES, RESIZES, resized

from maskformer_ext.ops import semantic_inference, semantic_scores
from maskformer_ext.ops.support.predictions import class_probabilities


def truth(probability, mask_logits, size, input_size, crop, flip, scores_first):
    """Scores in float64; absent queries, which have no probability, take no part."""
    present = (probability != 0).any(1)
    probability, masks = probability[present].double(), mask_logits[present].double()

    def scores(logits):
        return torch.einsum("qk,qhw->khw", probability, logits.sigmoid())

    if scores_first:
        maps = resized(masks, size, input_size, crop, between=scores)
    else:
        maps = scores(resized(masks, size, input_size, crop))
    return maps.flip(-1) if flip else maps


def check(kernels, probability, mask_logits, size, input_size=None, crop=None, flip=False, scores_first=False):
    arguments = (size, input_size, crop, flip, scores_first)
    expected = truth(probability, mask_logits, *arguments)
    out = torch.ones(probability.shape[1], *size)
    kernels.native.semantic_scores(probability, mask_logits, out, *arguments, 0.5)
    assert error(2 * (out.double() - 1), expected) <= LARGEST_ERROR
    labels = kernels.native.semantic_inference(probability, mask_logits, *arguments)
    assert labels.shape == tuple(size) and labels.dtype == torch.int64
    margin = expected.amax(0) - expected.gather(0, labels[None])[0]  # what a label may miss is float32's rounding
    assert margin.max() <= 1e-6 * expected.amax().clamp(min=1e-30)
    return labels


def draw(queries, classes, size, seed=3):
    class_logits, mask_logits = with_broken_queries(*confident_predictions(queries, classes, size, seed=seed))
    probability, _ = class_probabilities(class_logits, mask_logits)
    return probability[:, :-1], mask_logits


@pytest.mark.parametrize("scores_first", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("case", RESIZES, ids=str)
def test_labels_and_scores(kernels, case, flip, scores_first):
    shape, size, input_size, crop = case
    probability, mask_logits = draw(12, 6, shape)
    check(kernels, probability, mask_logits, size, input_size, crop, flip, scores_first)


@pytest.mark.parametrize(("queries", "classes"), [(3, 1), (70, 40), (20, 65), (18, 170), (130, 33)])
def test_any_number_of_queries_and_classes(kernels, queries, classes):
    torch.manual_seed(0)
    probability = torch.randn(queries, classes + 1).softmax(-1)[:, :-1]
    check(kernels, probability, 2 * torch.randn(queries, 5, 7), (9, 37))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scores_first", [False, True])
def test_half_precision_and_strides(kernels, dtype, scores_first):
    probability, mask_logits = draw(9, 4, (22, 30))
    mask_logits = mask_logits.to(dtype)
    for logits in (mask_logits, mask_logits[:, ::2], mask_logits.mT):
        check(kernels, probability, logits, (25, 40), None, None, False, scores_first)


def test_classes_that_float16_cannot_tell_apart_are_told_apart(kernels):
    torch.manual_seed(1)
    probability = torch.rand(16, 1).expand(16, 5) * (1 + 1e-5 * torch.randn(16, 5))
    labels = check(kernels, probability, torch.randn(16, 8, 8), (20, 33))
    assert len(labels.unique()) > 1


def test_equal_classes_give_the_lowest(kernels):
    probability = torch.rand(7, 1).expand(7, 70).contiguous()
    assert (check(kernels, probability, torch.randn(7, 4, 4), (6, 40)) == 0).all()


@pytest.mark.parametrize("share", [0.9, 1.1])
@pytest.mark.parametrize("classes", [3, 161])
def test_many_queries_that_are_small_decide_together(kernels, classes, share):
    small, winner = 70, 1 if share > 1 else 2
    arguments = ((9, 35), None, None, False, False)
    probability = torch.zeros(small + 1, classes)
    mask_logits = torch.full((small + 1, 4, 6), 20.0)
    probability[:small, 2] = 1.9e-4  # each alone is small enough to be left out
    probability[small, 1] = share * small * 1.9e-4
    assert (kernels.native.semantic_inference(probability, mask_logits, *arguments) == winner).all()
    probability[:small, 2] = 1.0  # the same with masks that are small
    mask_logits[:small] = -9.0
    probability[small, 1] = share * small * float(torch.tensor(-9.0).sigmoid())
    assert (kernels.native.semantic_inference(probability, mask_logits, *arguments) == winner).all()


@pytest.mark.parametrize("scores_first", [False, True])
def test_no_query_that_counts(kernels, scores_first):
    mask_logits = torch.full((3, 4, 4), torch.nan)
    for queries in (3, 0):
        arguments = (torch.zeros(queries, 5), mask_logits[:queries])
        labels = kernels.native.semantic_inference(*arguments, (6, 7), None, None, False, scores_first)
        assert (labels == 0).all()
        out = torch.ones(5, 6, 7)
        kernels.native.semantic_scores(*arguments, out, (6, 7), None, None, False, scores_first, 1.0)
        assert (out == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("resize", ["logits", "scores"])
@pytest.mark.parametrize("classes", [5, 150, 200])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_the_public_ops_equal_the_cpus(kernels, sizes, classes, resize, dtype):
    host = kernels.slow
    sizes = sizes if not host else {key: (a // 8, b // 8) for key, (a, b) in sizes.items()}
    class_logits, mask_logits = with_broken_queries(*confident_predictions(30 if host else 100, classes, (32, 48)))
    given = class_logits, mask_logits.to(dtype)
    scores = kernels.semantic_scores(*given, **sizes, resize=resize)
    labels = kernels.semantic_inference(*given, **sizes, resize=resize)
    with kernels.of_the_cpu():
        expected = semantic_scores(*given, **sizes, resize=resize), semantic_inference(*given, **sizes, resize=resize)
    assert error(scores, expected[0].double()) <= LARGEST_ERROR
    margin = scores.amax(0) - scores.gather(0, labels[None])[0]
    assert margin.max() <= 2e-6 * scores.max()
    assert (labels != expected[1]).float().mean() < 1e-4
