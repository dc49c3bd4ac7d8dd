"""The CUDA kernels of instance_masks against the CPU's and the float64 composition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from op_checks import error
from resizes import RESIZES, peaks, resized


def unpack(bits, width):
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1, count=width, bitorder="little")).bool()


def compare(shim, logits, size, threshold, input_size=None, crop=None):
    mean, boxes, bits = shim.instance_masks(logits, size, threshold, input_size, crop)
    _, expected_boxes, expected_bits = torch.ops.maskformer_ext.instance_masks(
        logits, size, threshold, input_size, crop
    )
    values = resized(logits, size, input_size, crop)
    masks, expected = unpack(bits, size[1]), unpack(expected_bits, size[1])
    near = (values - threshold).abs() < 1e-5 * logits.float().abs().max()
    assert ((masks == expected) | near).all()
    assert torch.equal(masks, unpack(bits, 8 * bits.shape[-1])[..., : size[1]])
    assert not unpack(bits, 8 * bits.shape[-1])[..., size[1] :].any()
    if torch.equal(masks, expected):
        assert torch.equal(boxes, expected_boxes)
    inside = masks.double()
    means = (values.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    assert error(mean, means) <= 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", RESIZES, ids=str)
def test_masks_boxes_and_means(shim, case, dtype):
    shape, *arguments = case
    logits = (4 * torch.randn(5, *shape)).to(dtype)
    logits[1] -= 30  # no pixel
    size, input_size, crop = arguments
    for threshold in (0.0, 1.5):
        compare(shim, logits, size, threshold, input_size, crop)


def test_wide_and_tall_outputs_take_several_blocks_and_steps(shim):
    compare(shim, 3 * torch.randn(2, 7, 30), (35, 700), 0.0)
    compare(shim, 3 * torch.randn(2, 30, 3), (300, 11), -1.0)


@pytest.mark.parametrize("sizes", [((30, 70),), ((19, 41), (28, 36), (25, 33)), ((5, 40),)], ids=str)
def test_no_peak_is_left_out(shim, sizes):
    compare(shim, peaks(7, 9), sizes[0], 0.0, *sizes[1:])
    compare(shim, peaks(7, 9)[:, :, ::2], sizes[0], 2.0, *sizes[1:])


def test_strides_and_no_queries(shim):
    logits = 3 * torch.randn(6, 24, 14)
    compare(shim, logits[::2, ::2], (20, 31), 0.0)
    compare(shim, logits.mT, (20, 31), 0.0)
    compare(shim, logits[:1].expand(3, -1, -1), (20, 31), 0.0)
    mean, boxes, bits = shim.instance_masks(logits[:0], (20, 31), 0.0, None, None)
    assert mean.shape == (0,) and boxes.shape == (0, 4) and bits.shape == (0, 20, 4)


def test_extreme_thresholds_and_numbers_that_are_none(shim):
    logits = torch.full((2, 3, 5), torch.nan)
    logits[1] = 1.0
    for threshold, pixels in ((-math.inf, (0, 99)), (math.inf, (0, 0)), (0.5, (0, 99))):
        mean, boxes, bits = shim.instance_masks(logits, (9, 11), threshold, None, None)
        assert tuple(unpack(bits, 11).sum((1, 2)).tolist()) == pixels
        for query, count in enumerate(pixels):
            assert boxes[query].tolist() == ([0, 0, 11, 9] if count else [0, 0, 0, 0])
            assert abs(float(mean[query]) - (0.7310586 if count else 0)) < 1e-6
