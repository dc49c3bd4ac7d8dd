"""matching_cost_from_embeddings equals matching_cost of the logits."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only
from segments import DEFAULTS, PARTS, random_targets
from torch import Tensor
from typed import as_dtype

from maskformer_ext.ops import MaskTargets, SegmentTargets, mask_dot, matching_cost, matching_cost_from_embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cost_from_embeddings_equals_that_of_the_logits(dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    class_logits = torch.randn(3, 2, 8, 7)
    mask_embed, mask_features = torch.randn(3, 2, 8, 16).to(dtype), torch.randn(2, 16, 20, 26).to(dtype)
    mask_logits = mask_dot(mask_embed, mask_features, out_dtype=torch.float32)
    for form in (targets, targets.to_masks()):
        for options in ({}, {"ignore_void": True} if form is targets else {}, {"alpha": -1.0, "gamma": 0.0}):
            ours = matching_cost_from_embeddings(class_logits, mask_embed, mask_features, form, **options)
            torch.testing.assert_close(ours, matching_cost(class_logits, mask_logits, form, **options))
    one_layer = matching_cost_from_embeddings(class_logits[0], mask_embed[0], mask_features, targets)
    torch.testing.assert_close(one_layer, matching_cost(class_logits[0], mask_logits[0], targets))


def draw(layers, images, queries, channels, size) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(8)
    features = torch.randn(images, channels, *size)
    return torch.randn(*layers, images, queries, 5), torch.randn(*layers, images, queries, channels), features


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    ("layers", "counts", "queries", "channels", "size"),
    [
        ((3,), [5, 0, 3], 4, 8, (9, 13)),  # several layers, one image a chunk
        ((2,), [2, 4, 1], 3, 16, (5, 7)),  # several images a chunk
        ((2, 1), [3, 2], 3, 20, (20, 26)),  # one layer of one image is more than a chunk
        ((), [4], 2, 3, (1, 1)),
    ],
)
def test_each_part_is_close_to_float64_chunk_by_chunk(kernels, layers, counts, queries, channels, size, masks):
    segments = random_targets(len(counts), counts, 6, (40, 52), 4, void=0.2)
    targets = segments.to_masks() if masks else segments
    predictions = draw(layers, len(counts), queries, channels, size)
    for part in PARTS:
        for ignore_void in (False, True):
            options: dict[str, Any] = {p: float(p == part) for p in PARTS} | {"ignore_void": ignore_void}
            truth = matching_cost_from_embeddings(*as_dtype(predictions, torch.float64), targets, **options)
            ours = kernels.matching_cost_from_embeddings(*predictions, targets, **options)
            assert error(ours, truth) <= LARGEST_ERROR, (part, ignore_void)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_queries_and_segments(kernels, masks, dtype):
    on_gpu = kernels.large
    full, size = ((256, 200), (128, 100)) if on_gpu else ((32, 25), (16, 13))
    segments = random_targets(3, [30, 0, 7], 30, full, 9)
    targets = segments.to_masks() if masks else segments
    queries, channels = (100, 64) if on_gpu else (4, 32)
    inputs = torch.randn(4, 3, queries, 10), torch.randn(4, 3, queries, channels), torch.randn(3, channels, *size) / 4
    inputs = as_dtype(inputs, dtype)
    expected = matching_cost_from_embeddings(*as_dtype(inputs, torch.float64), targets)
    assert error(kernels.matching_cost_from_embeddings(*inputs, targets), expected) <= LARGEST_ERROR


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_embeddings_and_channels_last(kernels, dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 4)
    classes, embed, features = draw((2,), 2, 6, 24, (12, 10))
    embed, features = embed.to(dtype), features.to(dtype, memory_format=torch.channels_last)
    truth = matching_cost_from_embeddings(classes.double(), embed.double(), features.double(), targets)
    assert error(kernels.matching_cost_from_embeddings(classes, embed, features, targets), truth) <= LARGEST_ERROR
    mixed = kernels.matching_cost_from_embeddings(classes.to(dtype), embed, features.float(), targets)
    assert error(mixed, truth) <= 1e-2


@pytest.mark.cuda_kernels
def test_tf32_where_it_is_allowed(kernels):
    targets = random_targets(1, [3], 3, (20, 20), 4)
    predictions = draw((), 1, 4, 32, (10, 10))
    truth = matching_cost_from_embeddings(*as_dtype(predictions, torch.float64), targets)
    segments = targets.segment_map, targets.labels, targets.num_segments, None
    found = kernels.native.matching_cost_from_embeddings(*predictions, *segments, *DEFAULTS.values(), True)
    assert 2e-6 < error(found, truth) <= 1e-2


def test_misfitting_arguments_are_named():
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    with pytest.raises(ValueError, match=r"class_logits must be \(\.\.\., B, Q, K \+ 1\)"):
        matching_cost_from_embeddings(torch.zeros(2, 8, 7), torch.zeros(2, 9, 4), torch.zeros(2, 4, 5, 5), targets)
    with pytest.raises(ValueError, match="mask_embed must be"):
        matching_cost_from_embeddings(torch.zeros(2, 8, 7), torch.zeros(2, 8, 3), torch.zeros(2, 4, 5, 5), targets)
    with pytest.raises(ValueError, match="targets must hold B = 1 images"):
        matching_cost_from_embeddings(torch.zeros(1, 8, 7), torch.zeros(1, 8, 4), torch.zeros(1, 4, 5, 5), targets)


def test_there_is_no_gradient():
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    mask_embed = torch.randn(2, 8, 4, requires_grad=True)
    cost = matching_cost_from_embeddings(torch.randn(2, 8, 7), mask_embed, torch.randn(2, 4, 5, 5), targets)
    assert not cost.requires_grad


@given(
    layers=st.integers(0, 3),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    queries=st.integers(1, 9),
    channels=st.integers(1, 33),
    size=st.tuples(st.integers(1, 23), st.integers(1, 40)),
    target_size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    cell=st.sampled_from([1, 5, 30]),
    masks=st.booleans(),
    ignore_void=st.booleans(),
    seed=st.integers(0, 2**31),
)
@example(  # one pixel, which is nearly right
    layers=1,
    counts=[1],
    queries=1,
    channels=14,
    size=(1, 1),
    target_size=(1, 1),
    cell=1,
    masks=False,
    ignore_void=False,
    seed=0,
)
@settings(max_examples=60, deadline=None)
def test_each_part_is_close_to_float64(
    layers, counts, queries, channels, size, target_size, cell, masks, ignore_void, seed
):
    torch.manual_seed(seed)
    targets = random_targets(len(counts), counts, 9, target_size, 4, cell=cell, void=0.2)
    form = targets.to_masks() if masks else targets
    class_logits = torch.randn(layers, len(counts), queries, 5)
    mask_embed, mask_features = (
        torch.randn(layers, len(counts), queries, channels),
        torch.randn(len(counts), channels, *size),
    )
    inputs = class_logits, mask_embed, mask_features
    for part in PARTS:
        options: dict[str, Any] = {name: float(name == part) for name in PARTS} | {"ignore_void": ignore_void}
        ours = matching_cost_from_embeddings(*inputs, form, **options)
        truth = matching_cost_from_embeddings(*as_dtype(inputs, torch.float64), form, **options)
        assert error(ours, truth) <= LARGEST_ERROR, part


def overlapping_noise(images, segments, size, classes):
    masks = torch.rand(images, segments, *size) < 0.5
    void = torch.rand(images, *size) < 0.1
    labels = torch.randint(classes, (images, segments))
    return MaskTargets(masks, labels, torch.tensor([segments] * (images - 1) + [0]), void)


@pytest.mark.parametrize("ignore_void", [False, True])
def test_masks_that_overlap_in_every_way(ignore_void):
    targets = overlapping_noise(3, 12, (64, 64), 5)
    inputs = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 16), torch.randn(3, 16, 64, 64)
    ours = matching_cost_from_embeddings(*inputs, targets, ignore_void=ignore_void)
    truth = matching_cost_from_embeddings(*as_dtype(inputs, torch.float64), targets, ignore_void=ignore_void)
    assert error(ours, truth) <= LARGEST_ERROR
    assert (ours[:, 2] == 0).all()


@pytest.mark.parametrize("layout", ["channels_last", "cropped", "transposed"])
def test_features_of_any_strides_give_the_same_cost(layout):
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    mask_features = torch.randn(2, 16, 20, 26)
    strided = {
        "channels_last": lambda x: x.to(memory_format=torch.channels_last),
        "cropped": lambda x: torch.nn.functional.pad(x, (1, 2, 1, 1))[..., 1:-1, 1:-2],
        "transposed": lambda x: x.mT.contiguous().mT,
    }[layout](mask_features)
    inputs = torch.randn(3, 2, 8, 7), torch.randn(3, 2, 8, 16)
    expected = matching_cost_from_embeddings(*inputs, mask_features, targets)
    assert torch.equal(matching_cost_from_embeddings(*inputs, strided, targets), expected)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["segment_map", "masks", "noise"])
def test_queries_with_bad_numbers_cost_infinity(kernels, form, ignore_void):
    if form == "noise":
        targets = overlapping_noise(2, 4, (32, 32), 3)
    else:
        targets = random_targets(2, [4, 2], 4, (32, 32), 3, void=0.3)
        targets = targets.to_masks() if form == "masks" else targets
    class_logits, mask_embed, mask_features = (
        torch.randn(2, 2, 9, 4),
        torch.randn(2, 2, 9, 16),
        torch.randn(2, 16, 8, 8),
    )
    options = {"ignore_void": ignore_void}
    expected = kernels.matching_cost_from_embeddings(class_logits, mask_embed, mask_features, targets, **options)
    class_logits[0, 0, 0, 3] = torch.nan
    class_logits[1, 0, 1, 0] = torch.inf
    mask_embed[0, 0, 3, 7] = torch.nan
    mask_embed[1, 0, 4, 0] = torch.inf
    bad = torch.zeros(2, 2, 9, dtype=torch.bool)
    bad[[0, 1, 0, 1], 0, [0, 1, 3, 4]] = True
    cost = kernels.matching_cost_from_embeddings(class_logits, mask_embed, mask_features, targets, **options)
    assert (cost[bad] == torch.inf).all()
    assert torch.equal(cost[~bad], expected[~bad])
    pixels = [(0, 0), (3, 5), (7, 7)][: 1 if kernels.slow else 3]
    for pixel in pixels:  # some of them void: even there a bad feature is a bad query
        broken = mask_features.clone()
        broken[0, 3, pixel[0], pixel[1]] = -torch.inf
        cost = kernels.matching_cost_from_embeddings(class_logits, mask_embed, broken, targets, **options)
        assert (cost[:, 0] == torch.inf).all()
        assert torch.equal(cost[:, 1], expected[:, 1])


def test_an_image_of_nothing_but_void_still_finds_bad_queries():
    targets = random_targets(1, [3], 3, (16, 16), 3, void=1.1)
    mask_embed = torch.randn(1, 4, 8)
    mask_embed[0, 2, 5] = torch.nan
    inputs = torch.randn(1, 4, 4), mask_embed, torch.randn(1, 8, 4, 4)
    cost = matching_cost_from_embeddings(*inputs, targets, ignore_void=True)
    assert (cost.isinf().all(-1) == torch.tensor([[False, False, True, False]])).all()
    assert torch.equal(cost, matching_cost(inputs[0], mask_dot(*inputs[1:]), targets, ignore_void=True))


def test_bad_ids_and_labels_are_refused():
    inputs = torch.randn(1, 4, 4), torch.randn(1, 4, 8), torch.randn(1, 8, 4, 4)
    targets = random_targets(1, [3], 3, (16, 16), 3)
    targets.segment_map[0, 0, 0] = 3
    with pytest.raises(ValueError, match=r"segment_map must hold ids in \[-1, 3\) for image 0"):
        matching_cost_from_embeddings(*inputs, targets)
    targets.segment_map[0, 0, 0] = 2
    targets.labels[0, 1] = 3
    with pytest.raises(ValueError, match=r"labels must lie in \[0, K\) with K = 3, got 3 for segment 1 of image 0"):
        matching_cost_from_embeddings(*inputs, targets)


@native_only
def test_threads_do_not_change_a_bit():
    targets = random_targets(3, [9, 0, 5], 9, (60, 90), 6)
    inputs = torch.randn(2, 3, 25, 7), torch.randn(2, 3, 25, 24), torch.randn(3, 24, 30, 45)
    for form in (targets, targets.to_masks(), overlapping_noise(3, 9, (60, 90), 6)):
        at_thread_counts(partial(matching_cost_from_embeddings, *inputs, form))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("layers", "queries", "size"), [((0,), 3, (4, 4)), ((2,), 0, (4, 4)), ((1, 0), 1, (0, 3))])
def test_without_elements_the_shape_is_kept(layers, queries, size, dtype):
    targets = SegmentTargets(
        torch.zeros(1, 4, 4, dtype=torch.int32), torch.zeros(1, 2, dtype=torch.int64), torch.tensor([1])
    )
    embed, features = torch.zeros(*layers, 1, queries, 5, dtype=dtype), torch.zeros(1, 5, *size, dtype=dtype)
    cost = matching_cost_from_embeddings(torch.zeros(*layers, 1, queries, 4, dtype=dtype), embed, features, targets)
    assert cost.shape == (*layers, 1, queries, 2)
