"""BoxTargets: how they are built, what is refused, and the methods that they share with the other targets."""

from __future__ import annotations

import pytest
import torch

from maskformer_ext.ops import BoxTargets


def of_two_images() -> BoxTargets:
    dicts = [
        {"boxes": torch.tensor([[0.1, 0.2, 0.3, 0.4]]), "class_labels": torch.tensor([7])},
        {"boxes": torch.rand(2, 4), "class_labels": torch.tensor([1, 2], dtype=torch.int32)},
    ]
    return BoxTargets.from_dicts(dicts)


def test_dicts_are_padded_to_the_most_boxes():
    targets = of_two_images()
    assert targets.boxes.shape == (2, 2, 4) and targets.labels.tolist() == [[7, 0], [1, 2]]
    assert targets.num_segments.tolist() == [1, 2] and targets.labels.dtype == torch.int64
    torch.testing.assert_close(targets.boxes[0], torch.tensor([[0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0]]))


def test_images_without_boxes_and_mixed_dtypes_are_legal():
    boxes = [torch.zeros(0, 4), torch.rand(1, 4, dtype=torch.float64)]
    targets = BoxTargets.from_boxes(boxes, [torch.zeros(0), torch.tensor([3])])
    assert targets.boxes.dtype == torch.float64 and torch.equal(targets.boxes[1], boxes[1])
    empty = BoxTargets.from_boxes(boxes[:1], [torch.zeros(0)])
    assert empty.boxes.shape == (1, 0, 4) and empty.num_segments.tolist() == [0]


def test_pairs_padding_and_copies_are_those_of_all_targets():
    targets = of_two_images()
    image, segment = targets.pairs(multiple=1)
    assert image.tolist() == [0, 1, 1] and segment.tolist() == [0, 0, 1]
    padded = targets.pad_to(5, 8)
    assert padded.boxes.shape == (2, 5, 4) and torch.equal(padded.boxes[:, :2], targets.boxes)
    other = of_two_images().pad_to(5, 8)
    assert torch.equal(padded.copy_(other).boxes, other.boxes)
    assert of_two_images().to("meta").boxes.is_meta


@pytest.mark.parametrize(
    ("boxes", "labels", "kind", "message"),
    [
        ([], [], ValueError, "boxes must hold at least one image, got none"),
        ([torch.rand(1, 4)], [], ValueError, "boxes and labels must have one entry per image, got 1, 0"),
        ([torch.rand(2, 4)], [torch.tensor([1])], ValueError, r"boxes\[0\] must be \(T, 4\) with T = 1, as labels"),
        ([torch.rand(1, 5)], [torch.tensor([1])], ValueError, r"boxes\[0\] must be \(T, 4\) .*, got \(1, 5\)"),
        ([torch.ones(1, 4).long()], [torch.tensor([1])], TypeError, r"boxes\[0\] must have a floating dtype"),
        ([torch.rand(1, 4)], [torch.tensor([1.0])], TypeError, r"labels\[0\] must have an integer dtype"),
        (
            [torch.rand(1, 4), torch.rand(1, 4).to("meta")],
            [torch.tensor([1])] * 2,
            ValueError,
            r"boxes\[1\] must be on cpu as boxes\[0\] is, got meta",
        ),
    ],
)
def test_what_does_not_fit_is_named(boxes, labels, kind, message):
    with pytest.raises(kind, match=f"^from_boxes: {message}"):
        BoxTargets.from_boxes(boxes, labels)


def test_dicts_must_hold_both_entries():
    with pytest.raises(ValueError, match=r"from_dicts: labels\[0\] must hold class_labels, got \['boxes'\]"):
        BoxTargets.from_dicts([{"boxes": torch.rand(1, 4)}])
    with pytest.raises(TypeError, match=r"from_dicts: labels\[0\] must be a mapping, got Tensor"):
        BoxTargets.from_dicts([torch.rand(1, 4)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("boxes", "labels", "counts", "kind", "message"),
    [
        (torch.rand(2, 4), torch.zeros(2, 1).long(), torch.ones(2).long(), ValueError, r"boxes must be \(B, T, 4\)"),
        (torch.rand(2, 3, 4), torch.zeros(2, 1).long(), torch.ones(2).long(), ValueError, "boxes must be .* T = 1"),
        (torch.rand(2, 1, 3), torch.zeros(2, 1).long(), torch.ones(2).long(), ValueError, "boxes must be .* T = 1"),
        (torch.ones(2, 1, 4).int(), torch.zeros(2, 1).long(), torch.ones(2).long(), TypeError, "boxes must have a fl"),
        (torch.rand(2, 1, 4), torch.zeros(2, 1), torch.ones(2).long(), TypeError, "labels must be int64"),
    ],
)
def test_fields_are_checked(boxes, labels, counts, kind, message):
    with pytest.raises(kind, match=f"^BoxTargets: {message}"):
        BoxTargets(boxes, labels, counts)
