"""The CUDA form of matching_cost_from_embeddings, chunk by chunk, against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from conftest import cuda_kernels_only
from op_checks import error
from test_matching_cost import DEFAULTS, PARTS, random_targets

from maskformer_ext.ops import SegmentTargets, matching_cost_from_embeddings


def cost(shim, predictions, targets, allow_tf32=False, **options):
    options = {**DEFAULTS, **options}
    is_map = isinstance(targets, SegmentTargets)
    pixels = targets.segment_map if is_map else targets.masks
    void = targets.void if options["ignore_void"] and not is_map else None
    return shim.matching_cost_from_embeddings(
        *predictions, pixels, targets.labels, targets.num_segments, void, *options.values(), allow_tf32
    )


def draw(layers, images, queries, channels, size):
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
def test_each_part_is_close_to_float64(shim, layers, counts, queries, channels, size, masks):
    targets = random_targets(len(counts), counts, 6, (40, 52), 4, void=0.2)
    targets = targets.to_masks() if masks else targets
    predictions = draw(layers, len(counts), queries, channels, size)
    for part in PARTS:
        for ignore_void in (False, True):
            options = {p: float(p == part) for p in PARTS} | {"ignore_void": ignore_void}
            truth = matching_cost_from_embeddings(*(x.double() for x in predictions), targets, **options)
            assert error(cost(shim, predictions, targets, **options), truth) <= 2e-6, (part, ignore_void)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_embeddings_and_channels_last(shim, dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 4)
    classes, embed, features = draw((2,), 2, 6, 24, (12, 10))
    embed, features = embed.to(dtype), features.to(dtype, memory_format=torch.channels_last)
    truth = matching_cost_from_embeddings(classes.double(), embed.double(), features.double(), targets)
    assert error(cost(shim, (classes, embed, features), targets), truth) <= 2e-6
    mixed = cost(shim, (classes.to(dtype), embed, features.float()), targets)
    assert error(mixed, truth) <= 1e-2


@cuda_kernels_only
def test_tf32_where_it_is_allowed(shim):
    targets = random_targets(1, [3], 3, (20, 20), 4)
    predictions = draw((), 1, 4, 32, (10, 10))
    truth = matching_cost_from_embeddings(*(x.double() for x in predictions), targets)
    assert 2e-6 < error(cost(shim, predictions, targets, allow_tf32=True), truth) <= 1e-2


def test_queries_with_bad_numbers_cost_infinity(shim):
    targets = random_targets(1, [3], 3, (20, 20), 4)
    classes, embed, features = draw((), 1, 4, 8, (10, 10))
    embed[0, 1, 3], classes[0, 2, 0] = torch.nan, torch.nan
    found = cost(shim, (classes, embed, features), targets)
    assert found[0, 1:3].isinf().all() and found[0, [0, 3]].isfinite().all()
