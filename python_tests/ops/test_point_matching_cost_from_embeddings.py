"""point_matching_cost_from_embeddings equals point_matching_cost of the logits."""

from functools import partial
from typing import Any

import pytest
import torch
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only
from segments import random_targets
from torch import Tensor

from maskformer_ext.ops import point_matching_cost, point_matching_cost_from_embeddings

PARTS = ("class_weight", "mask_weight", "dice_weight")


def draw(layers, images, queries, channels, size, count) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(8)
    return (
        torch.randn(*layers, images, queries, 5),
        torch.randn(*layers, images, queries, channels),
        torch.randn(images, channels, *size),
        torch.rand(*layers, images, count, 2) * 1.1 - 0.05,
    )


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("layers", "counts", "queries", "channels", "size", "count"),
    [
        ((3,), [5, 0, 3], 4, 8, (9, 13), 50),
        ((2, 1), [3, 2], 19, 21, (6, 7), 33),
        ((), [4], 2, 3, (1, 1), 1),
        ((2,), [2], 35, 16, (5, 4), 40),
        ((), [2], 70, 5, (5, 4), 9),
    ],
)
def test_each_part_is_close_to_float64(kernels, layers, counts, queries, channels, size, count, masks):
    segments = random_targets(len(counts), counts, 6, (40, 52), 4, void=0.2)
    targets = segments.to_masks() if masks else segments
    classes, embed, features, points = draw(layers, len(counts), queries, channels, size, count)
    for part in PARTS:
        options: dict[str, Any] = {p: float(p == part) for p in PARTS}
        wide = classes.double(), embed.double(), features.double()
        truth = point_matching_cost_from_embeddings(*wide, targets, points, **options)
        ours = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points, **options)
        assert error(ours, truth) <= 2 * LARGEST_ERROR, part


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_it_equals_the_cost_of_the_logits(kernels, sampling):
    targets = random_targets(2, [5, 3], 5, (40, 52), 4)
    classes, embed, features, points = draw((2,), 2, 6, 24, (12, 10), 90)
    logits = torch.einsum("lbqc,bchw->lbqhw", embed, features)
    expected = point_matching_cost(classes, logits, targets, points, sampling=sampling)
    ours = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points, sampling=sampling)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_more_points_than_one_chunk(kernels):
    targets = random_targets(1, [5], 5, (40, 52), 4)
    classes, embed, features, points = draw((2,), 1, 3, 4, (12, 10), 300 if kernels.slow else 4500)
    truth = point_matching_cost_from_embeddings(classes.double(), embed.double(), features.double(), targets, points)
    ours = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points)
    assert error(ours, truth) <= LARGEST_ERROR


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_embeddings_and_channels_last(kernels, dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 4)
    classes, embed, features, points = draw((2,), 2, 6, 24, (12, 10), 60)
    embed, features = embed.to(dtype), features.to(dtype, memory_format=torch.channels_last)
    truth = point_matching_cost_from_embeddings(classes.double(), embed.double(), features.double(), targets, points)
    ours = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points)
    assert error(ours, truth) <= LARGEST_ERROR


@pytest.mark.parametrize("layout", ["channels_last", "cropped", "transposed"])
def test_features_of_any_strides_give_the_same_cost(kernels, layout):
    targets = random_targets(2, [5, 3], 5, (20, 26), 4)
    classes, embed, features, points = draw((), 2, 4, 18, (10, 13), 40)
    strided = {
        "channels_last": lambda x: x.to(memory_format=torch.channels_last),
        "cropped": lambda x: torch.nn.functional.pad(x, (1, 2, 1, 1))[..., 1:-1, 1:-2],
        "transposed": lambda x: x.mT.contiguous().mT,
    }[layout](features)
    expected = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points)
    found = kernels.point_matching_cost_from_embeddings(classes, embed, strided, targets, points)
    assert torch.equal(found, expected)


def test_queries_with_bad_numbers_cost_infinity(kernels):
    targets = random_targets(2, [4, 2], 4, (32, 32), 3)
    classes, embed, features, points = draw((2,), 2, 9, 16, (8, 8), 50)
    points = points * 0.4  # nowhere near the right half
    targets.labels.clamp_(max=3)
    call = kernels.point_matching_cost_from_embeddings
    expected = call(classes, embed, features, targets, points)
    classes[0, 0, 0, 3] = torch.nan
    embed[0, 0, 3, 7], embed[1, 0, 4, 0] = torch.nan, torch.inf
    features[0, 2, 7, 7] = torch.nan  # which no point reads
    bad = torch.zeros(2, 2, 9, dtype=torch.bool)
    bad[[0, 0, 1], 0, [0, 3, 4]] = True
    cost = call(classes, embed, features, targets, points)
    assert (cost[bad] == torch.inf).all()
    assert torch.equal(cost[~bad], expected[~bad])


@native_only
def test_threads_do_not_change_a_bit():
    targets = random_targets(3, [9, 0, 5], 9, (60, 90), 4)
    classes, embed, features, points = draw((4,), 3, 25, 24, (30, 45), 3000)
    for form in (targets, targets.to_masks()):
        at_thread_counts(partial(point_matching_cost_from_embeddings, classes, embed, features, form, points))


@pytest.mark.parametrize(("layers", "queries", "count"), [((0,), 3, 4), ((2,), 0, 4), ((1, 0), 1, 4), ((), 3, 0)])
def test_without_elements_the_shape_is_kept(kernels, layers, queries, count):
    targets = random_targets(1, [2], 2, (8, 8), 3)
    classes, embed, features, points = draw(layers, 1, queries, 5, (4, 4), count)
    cost = kernels.point_matching_cost_from_embeddings(classes, embed, features, targets, points)
    assert cost.shape == (*layers, 1, queries, 2)


def test_misfitting_arguments_are_named():
    targets = random_targets(2, [3, 2], 3, (16, 16), 3)
    classes, embed, features, points = draw((), 2, 4, 6, (5, 5), 6)
    with pytest.raises(ValueError, match=r"points must be \(\.\.\., B, P, 2\) with"):
        point_matching_cost_from_embeddings(classes, embed, features, targets, points[:1])
    with pytest.raises(ValueError, match="mask_embed must be"):
        point_matching_cost_from_embeddings(classes, embed[..., :5], features, targets, points)
    with pytest.raises(ValueError, match="class_logits must be"):
        point_matching_cost_from_embeddings(classes[:, 1:], embed, features, targets, points)
