"""matched_mask_loss against transformers' losses of masks resized with `interpolate`."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import bench_mask_loss
from benchmarks.case import Case, case_name

SMALL = bench_mask_loss.SMALL
ON_GPU = bench_mask_loss.ON_GPU


def build(**parameters: Any) -> Case:
    """Make the case of `bench_mask_loss`, with targets as one map of segment indices."""
    return bench_mask_loss.build(**{**parameters, "targets": "segment_map"})


@pytest.mark.parametrize("masks", [20, 60])
def test_matched_mask_loss(compare, masks):
    """Targets as one map of segment indices."""
    compare(masks=masks)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_matched_mask_loss_on_a_gpu(compare_on_gpu, parameters):
    """All matched masks of one layer of 16 images."""
    compare_on_gpu(**parameters)
