"""matching_cost refuses what does not fit, and names it."""

import pytest
import torch

from maskformer_ext.ops import MaskTargets, SegmentTargets, matching_cost


def make(segment_map=None, labels=None, num_segments=None):
    return SegmentTargets(
        torch.zeros(2, 8, 8, dtype=torch.int32) if segment_map is None else segment_map,
        torch.zeros(2, 3, dtype=torch.long) if labels is None else labels,
        torch.tensor([3, 1]) if num_segments is None else num_segments,
    )


def with_id(image: int, segment: int, dtype=torch.int32) -> torch.Tensor:
    segment_map = torch.zeros(2, 8, 8, dtype=dtype)
    segment_map[image, 5, 3] = segment  # a pixel that the reduction to (h, w) does not read
    return segment_map


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (make(segment_map=with_id(0, 3)), r"segment_map must hold ids in \[-1, 3\) for image 0, got 0 to 3"),
        (make(segment_map=with_id(1, 1, torch.int16)), r"segment_map must hold ids in \[-1, 1\) for image 1"),
        (make(segment_map=with_id(1, -2)), r"segment_map must hold ids in \[-1"),
        (make(segment_map=with_id(0, 2**31 - 1)), r"segment_map must hold ids in \[-1"),
        (
            make(labels=torch.tensor([[0, 4, 0], [0, 0, 0]])),
            r"labels must lie in \[0, K\) with K = 4, got 4 for segment 1 of image 0",
        ),
        (make(labels=torch.tensor([[0, 0, 0], [-1, 0, 0]])), r"labels must lie in \[0, K\) with K = 4, got -1"),
        (make(num_segments=torch.tensor([4, 1])), r"num_segments must lie in \[0, T\] with T = 3"),
        (make(num_segments=torch.tensor([1, -1])), r"num_segments must lie in \[0, T\] with T = 3"),
    ],
)
def test_invalid_targets_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        matching_cost(torch.zeros(2, 5, 5), torch.zeros(2, 5, 4, 4), targets)


@pytest.mark.parametrize(
    ("class_shape", "mask_shape", "options", "message"),
    [
        ((2, 5, 5), (2, 4, 4, 4), {}, r"class_logits must be \(\.\.\., B, Q, K \+ 1\)"),
        ((3, 5, 5), (3, 5, 4, 4), {}, "targets must hold B = 3 images"),
        ((5, 5), (5, 4, 4), {}, "mask_logits must be"),
        ((2, 5, 1), (2, 5, 4, 4), {}, "K >= 1"),
        ((2, 5, 5), (2, 5, 4, 4), {"gamma": -1.0}, "gamma must not be negative"),
    ],
)
def test_misfitting_arguments_are_named(class_shape, mask_shape, options, message):
    with pytest.raises(ValueError, match=message):
        matching_cost(torch.zeros(class_shape), torch.zeros(mask_shape), make(), **options)


def test_void_is_needed_to_ignore_it():
    masks = torch.zeros(2, 3, 8, 8, dtype=torch.bool)
    targets = MaskTargets(masks, torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 1]))
    with pytest.raises(ValueError, match=r"targets\.void must be given"):
        matching_cost(torch.zeros(2, 5, 5), torch.zeros(2, 5, 4, 4), targets, ignore_void=True)


def test_there_is_no_gradient():
    class_logits = torch.randn(2, 5, 5, requires_grad=True)
    mask_logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    assert not matching_cost(class_logits, mask_logits, make()).requires_grad
