"""uncertain_points against the parts of transformers' Mask2Former loss: sample, absolute value, topk, gather."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional, relative_error
from maskformer_ext.ops import uncertain_points

SMALL = {"masks": 3, "size": 16, "points": 64}
ON_GPU = [{"masks": masks, "dtype": dtype} for masks in (40, 320) for dtype in ("float32", "bfloat16")]
_IMPORTANT = 0.75  # the share of points that is chosen; three times as many candidates are drawn


def build(*, device: str, masks: int, size: int = 128, points: int = 12544, dtype: str = "float32") -> Case:
    """Make logits (masks, size, size) with the edges of segments, and candidates for `points` points."""
    theirs = optional("transformers.models.mask2former.modeling_mask2former")
    boolean = scenes.masks_of(scenes.segment_maps(1, masks, 4 * size)[0], masks)
    logits = scenes.logits_for(boolean, size).to(device, getattr(torch, dtype))
    candidates = torch.rand(masks, 3 * points, 2).to(device)
    count = int(_IMPORTANT * points)

    def peer() -> Tensor:
        sampled = theirs.sample_point(logits.float()[:, None], candidates, align_corners=False)
        nearest = torch.topk(-sampled[:, 0].abs(), k=count, dim=1)[1]
        return candidates.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 2))

    def distances(chosen: Tensor) -> Tensor:
        grid = 2 * chosen.double().unsqueeze(2) - 1
        sampled = F.grid_sample(logits.double()[:, None], grid, align_corners=False)
        return sampled[:, 0, :, 0].abs().sort().values

    return Case(
        op="uncertain_points",
        title=f"{count} of {3 * points} candidates of {masks} masks {size}x{size}"
        + ("" if dtype == "float32" else f", {dtype}"),
        ours=lambda: uncertain_points(logits, candidates, count),
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5,
        inputs={"mask_logits": logits, "candidates": candidates},
        error=lambda ours, reference: relative_error(distances(ours), distances(reference)),
        notes=("candidates are given, so that no time goes into drawing them",),
    )


def test_uncertain_points(compare):
    """The masks of one layer of two images."""
    compare(masks=40)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_uncertain_points_on_a_gpu(compare_on_gpu, parameters):
    """The masks of one layer of 2 and of 16 images."""
    compare_on_gpu(**parameters)
