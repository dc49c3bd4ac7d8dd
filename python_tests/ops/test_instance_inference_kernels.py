"""The kernels of instance_inference: masks, boxes and means, against the CPU's and the float64 composition."""

import math

import numpy as np
import pytest
import torch
from op_checks import error
from predictions import confident_predictions, with_broken_queries
from resizes import INFERENCE_SIZES, RESIZES, peaks, resized

from maskformer_ext.ops import instance_inference


def unpack(bits, width):
    return torch.from_numpy(np.unpackbits(bits.numpy(), axis=-1, count=width, bitorder="little")).bool()


def compare(kernels, logits, size, threshold, input_size=None, crop=None):
    mean, boxes, bits = kernels.native.instance_masks(logits, size, threshold, input_size, crop)
    with kernels.of_the_cpu():
        cpus = torch.ops.maskformer_ext.instance_masks(logits, size, threshold, input_size, crop)
    expected_boxes, expected_bits = cpus[1:]
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
def test_masks_boxes_and_means(kernels, case, dtype):
    shape, *arguments = case
    logits = (4 * torch.randn(5, *shape)).to(dtype)
    logits[1] -= 30  # no pixel
    size, input_size, crop = arguments
    for threshold in (0.0, 1.5):
        compare(kernels, logits, size, threshold, input_size, crop)


def test_wide_and_tall_outputs_take_several_blocks_and_steps(kernels):
    compare(kernels, 3 * torch.randn(2, 7, 30), (35, 700), 0.0)
    compare(kernels, 3 * torch.randn(2, 30, 3), (300, 11), -1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_instances_equal_the_cpus(kernels, sizes, dtype):
    sizes = sizes if not kernels.slow else {key: (a // 4, b // 4) for key, (a, b) in sizes.items()}
    queries = 6 if kernels.slow else 30
    class_logits, mask_logits = with_broken_queries(*confident_predictions(queries, 7, (32, 48)))
    given = class_logits, mask_logits.to(dtype)
    found = kernels.instance_inference(*given, **sizes, thing_classes=range(5))
    with kernels.of_the_cpu():
        expected = instance_inference(*given, **sizes, thing_classes=range(5))
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert (found.masks != expected.masks).float().mean() < 1e-5


@pytest.mark.parametrize("sizes", [((30, 70),), ((19, 41), (28, 36), (25, 33)), ((5, 40),)], ids=str)
def test_no_peak_is_left_out(kernels, sizes):
    compare(kernels, peaks(7, 9), sizes[0], 0.0, *sizes[1:])
    compare(kernels, peaks(7, 9)[:, :, ::2], sizes[0], 2.0, *sizes[1:])


def test_strides_and_no_queries(kernels):
    logits = 3 * torch.randn(6, 24, 14)
    compare(kernels, logits[::2, ::2], (20, 31), 0.0)
    compare(kernels, logits.mT, (20, 31), 0.0)
    compare(kernels, logits[:1].expand(3, -1, -1), (20, 31), 0.0)
    mean, boxes, bits = kernels.native.instance_masks(logits[:0], (20, 31), 0.0, None, None)
    assert mean.shape == (0,) and boxes.shape == (0, 4) and bits.shape == (0, 20, 4)


def test_extreme_thresholds_and_numbers_that_are_none(kernels):
    logits = torch.full((2, 3, 5), torch.nan)
    logits[1] = 1.0
    for threshold, pixels in ((-math.inf, (0, 99)), (math.inf, (0, 0)), (0.5, (0, 99))):
        mean, boxes, bits = kernels.native.instance_masks(logits, (9, 11), threshold, None, None)
        assert tuple(unpack(bits, 11).sum((1, 2)).tolist()) == pixels
        for query, count in enumerate(pixels):
            assert boxes[query].tolist() == ([0, 0, 11, 9] if count else [0, 0, 0, 0])
            assert abs(float(mean[query]) - (0.7310586 if count else 0)) < 1e-6
