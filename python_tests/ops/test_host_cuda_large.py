"""Indices beyond 2^31 on the host stand-in: a sample of blocks runs on tensors that the system never has to store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import stand_in
import torch

from maskformer_ext.ops import (
    SegmentTargets,
    dice_loss,
    linear_sum_assignment,
    mask_dot,
    mask_loss,
    matching_cost,
    ms_deform_attn,
    semantic_inference,
    sigmoid_focal_loss,
)

pytestmark = pytest.mark.cuda_kernels

half = torch.float16


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return zeros that take no memory until they are written."""
    return torch.zeros(shape, dtype=dtype)


def one_image(size: int, segments: int) -> SegmentTargets:
    return SegmentTargets(
        zeros(1, size, size, dtype=torch.int16), zeros(1, segments, dtype=torch.int64), torch.tensor([segments])
    )


LARGE: dict[str, tuple[int, Callable[[], object]]] = {
    # elements of the largest tensor, and the call
    "mask_dot": (  # with an activation, since a plain product of 16 bits is torch's
        129 << 24,
        lambda: mask_dot(zeros(1, 129, 8, dtype=half), zeros(1, 8, 4096, 4096, dtype=half), activation="sigmoid"),
    ),
    "mask_loss": (8200 << 18, lambda: mask_loss(zeros(8200, 8, 8), zeros(8200, 512, 512, dtype=torch.bool))),
    "matching_cost": (
        140_000 << 14,
        lambda: matching_cost(zeros(1400, 1, 100, 4), zeros(1400, 1, 100, 128, 128), one_image(128, 2)),
    ),
    "semantic_inference": (
        129 << 24,
        lambda: semantic_inference(zeros(129, 4), zeros(129, 4096, 4096, dtype=half), (4096, 4096)),
    ),
    "instance_masks": (
        129 << 24,
        lambda: torch.ops.maskformer_ext.instance_masks(
            zeros(129, 4096, 4096, dtype=half), (4096, 4096), 0.0, None, None
        ),
    ),
    "dice_loss": (
        8200 << 18,
        lambda: dice_loss(zeros(8200, 512, 512, dtype=half), zeros(8200, 512, 512, dtype=torch.bool)),
    ),
    "sigmoid_focal_loss": (
        8200 << 18,
        lambda: sigmoid_focal_loss(
            zeros(8200, 512, 512, dtype=half), zeros(8200, 512, 512, dtype=half), reduction="sum"
        ),
    ),
    "linear_sum_assignment": (
        24_000 * 90_000,
        lambda: linear_sum_assignment(zeros(24_000, 300, 300, dtype=half), torch.full((24_000,), 300)),
    ),
    "ms_deform_attn": (
        8_392_609 << 8,
        lambda: ms_deform_attn(
            zeros(1, 8_392_609, 8, 32, dtype=half),
            ((2897, 2897),),
            zeros(1, 64, 8, 1, 4, 2, dtype=half) + 0.99,
            zeros(1, 64, 8, 1, 4, dtype=half),
        ),
    ),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LARGE)
def test_indices_beyond_32_bits(kernels, name: str) -> None:
    if kernels.kind != "host_cuda":
        pytest.skip("of the stand-in only: it need not run all blocks")
    elements, call = LARGE[name]
    assert elements > 2**31
    torch.use_deterministic_algorithms(False)  # which fills new memory, all of it
    with stand_in.configured(most_blocks=6), torch.inference_mode():
        call()
