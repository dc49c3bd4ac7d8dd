"""What targets are built from is checked, in one way for every form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskformer_ext.ops import VOID, MaskTargets, SegmentTargets
from maskformer_ext.ops.targets import stack_segments

FORMS = [SegmentTargets, MaskTargets]


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("masks", "labels", "kind", "message"),
    [
        ([ones(1, 3, 3)], [torch.tensor([1, 2])], ValueError, r"masks\[0\] must be \(T, H, W\) with T = 2"),
        ([ones(2, 3, 3)], [torch.tensor([1])], ValueError, r"masks\[0\] must be \(T, H, W\) with T = 1"),
        ([ones(0, 3, 3)], [torch.tensor([1])], ValueError, r"masks\[0\] must be \(T, H, W\) with T = 1"),
        ([ones(3, 3)], [torch.tensor([1, 1, 1])], ValueError, r"masks\[0\] must be .*, got \(3, 3\)"),
        ([ones(1, 1, 3, 3)], [torch.tensor([1])], ValueError, r"masks\[0\] must be .*, got \(1, 1, 3, 3\)"),
        ([ones(1, 3, 3)], [], ValueError, "masks and labels must have one entry per image, got 1, 0"),
        ([], [], ValueError, "masks must hold at least one image, got none"),
        (
            [ones(1, 3, 3), ones(1, 3, 4)],
            [torch.tensor([1])] * 2,
            ValueError,
            r"masks\[1\] must have the size of masks\[0\], \(3, 3\), got \(3, 4\)",
        ),
        (
            [ones(1, 3, 3), ones(1, 3, 3).to("meta")],
            [torch.tensor([1])] * 2,
            ValueError,
            r"masks\[1\] must be on cpu as masks\[0\] is, got meta",
        ),
        ([np.ones((1, 3, 3))], [torch.tensor([1])], TypeError, r"masks\[0\] must be a Tensor, got ndarray"),
        ([ones(1, 3, 3)], [[1]], TypeError, r"labels\[0\] must be a Tensor, got list"),
        (
            [ones(1, 3, 3)],
            [torch.tensor([1.5])],
            TypeError,
            r"labels\[0\] must have an integer dtype, got torch.float32",
        ),
        ([ones(1, 3, 3)], [torch.tensor([True])], TypeError, r"labels\[0\] must have an integer dtype, got torch.bool"),
        ([ones(1, 3, 3)], [torch.tensor([[1]])], ValueError, r"labels\[0\] must be \(T,\), got \(1, 1\)"),
    ],
)
def test_masks_and_labels_that_do_not_fit_are_named(form, masks, labels, kind, message):
    with pytest.raises(kind, match=f"^from_masks: {message}"):
        form.from_masks(masks, labels)


@pytest.mark.parametrize("form", FORMS)
def test_images_without_segments_and_labels_of_any_integer_dtype_are_legal(form):
    targets = form.from_masks(
        [ones(0, 3, 3), ones(2, 3, 3)], [torch.tensor([]), torch.tensor([4, 2], dtype=torch.uint8)]
    )
    assert targets.num_segments.tolist() == [0, 2] and targets.labels.tolist() == [[0, 0], [4, 2]]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: SegmentTargets.from_label_map(torch.zeros(3, 3)), TypeError, "label_map must have an integer dtype"),
        (
            lambda: SegmentTargets.from_label_map(np.zeros((3, 3), int)),  # type: ignore[arg-type]
            TypeError,
            "label_map must be a Tensor",
        ),
        (
            lambda: SegmentTargets.from_label_map(torch.zeros(3).long()),
            ValueError,
            r"label_map must be \(B, H, W\)",
        ),
        (
            lambda: SegmentTargets.from_label_map(torch.zeros(0, 3, 3).long()),
            ValueError,
            "label_map must hold at least one image",
        ),
        (
            lambda: SegmentTargets.from_label_map(torch.tensor([[0, -7]])),
            ValueError,
            "label_map must hold class ids from 0, or ignore = 255, got -7 in image 0",
        ),
        (
            lambda: SegmentTargets.from_label_map(torch.zeros(3, 3).long(), ignore="255"),  # type: ignore[arg-type]
            TypeError,
            "ignore must be an integer, got '255'",
        ),
        (lambda: SegmentTargets.from_id_map(torch.zeros(3, 3), {}), TypeError, "id_map must have an integer dtype"),
        (
            lambda: SegmentTargets.from_id_map(torch.zeros(3, 3).long(), {"0": 1}),  # type: ignore[dict-item]
            TypeError,
            r"the segment ids of categories\[0\] must be an integer, got '0'",
        ),
        (
            lambda: SegmentTargets.from_id_map(torch.zeros(3, 3).long(), {0: 1.5}),  # type: ignore[dict-item]
            TypeError,
            r"the class ids of categories\[0\] must be an integer, got 1\.5",
        ),
        (
            lambda: SegmentTargets.from_id_map(torch.zeros(2, 3, 3).long(), [{0: 1}]),
            ValueError,
            "categories must have one table per image, B = 2, got 1",
        ),
        (
            lambda: SegmentTargets.from_id_map(torch.zeros(1, 3, 3).long(), [[0, 1]]),  # type: ignore[list-item]
            TypeError,
            r"categories\[0\] must be a mapping, got list",
        ),
    ],
)
def test_maps_that_cannot_be_read_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_void_may_be_any_number():
    targets = SegmentTargets.from_label_map(torch.tensor([[3, -1, 5]]), ignore=-1)
    assert targets.segment_map.tolist() == [[[0, VOID, 1]]] and targets.labels.tolist() == [[3, 5]]


def many(count: int, dtype: torch.dtype = torch.int16) -> SegmentTargets:
    segment_map = torch.full((1, 2, 3), VOID, dtype=dtype)
    return SegmentTargets(segment_map, torch.zeros(1, count, dtype=torch.int64), torch.tensor([count]))


def test_an_int16_map_has_no_more_segments_than_it_can_name():
    assert many(32768).labels.shape == (1, 32768)
    for count in (32769, 65536):
        with pytest.raises(
            ValueError, match=f"segment_map must be int32 for more than 32768 .*, got int16 for T = {count}"
        ):
            many(count)
        assert many(count, torch.int32).labels.shape == (1, count)
    with pytest.raises(ValueError, match="segment_map must be int32"):
        many(1).pad_to(40000, 64)


def test_collate_widens_a_map_that_would_become_too_narrow():
    narrow, wide = many(32768), many(40000, torch.int32)
    assert SegmentTargets.collate([narrow, narrow]).segment_map.dtype == torch.int16
    joined = SegmentTargets.collate([narrow, wide])
    assert joined.segment_map.dtype == torch.int32 and joined.num_segments.tolist() == [32768, 40000]


@pytest.mark.parametrize(
    ("targets", "kind", "message"),
    [
        ([], ValueError, "targets must hold at least one batch, got none"),
        ([many(1), many(1).to_masks()], TypeError, r"targets\[1\] must be SegmentTargets, got MaskTargets"),
        ([many(1), many(1).to("meta")], ValueError, r"targets\[1\] must be on cpu as targets\[0\] is, got meta"),
        (
            [SegmentTargets(torch.zeros(1, 2, 2).int(), torch.zeros(1, 3).long(), torch.tensor([5]))],
            ValueError,
            r"num_segments must lie in \[0, T\] with T = 3, got \[5\]",
        ),
    ],
    ids=str,
)
def test_collate_names_what_it_cannot_join(targets, kind, message):
    with pytest.raises(kind, match=f"^collate: {message}"):
        SegmentTargets.collate(targets)


def test_stacked_segments_have_a_row_of_integer_labels_an_image():
    segment_map = torch.zeros(2, 3, 3, dtype=torch.int32)
    with pytest.raises(ValueError, match="labels must have one entry per image, B = 2, got 1"):
        stack_segments(segment_map, [torch.tensor([1])])
    with pytest.raises(TypeError, match=r"labels\[1\] must have an integer dtype, got torch.float32"):
        stack_segments(segment_map, [torch.tensor([1]), torch.tensor([0.5])])


@pytest.mark.parametrize("form", FORMS)
def test_fields_that_are_no_tensors_are_named(form):
    pixels = torch.zeros(1, 3, 3, dtype=torch.int32) if form is SegmentTargets else torch.zeros(1, 1, 3, 3)
    with pytest.raises(TypeError, match=f"{form.__name__}: labels must be a Tensor, got list"):
        form(pixels, [[0]], torch.tensor([1]))


def test_pairs_of_meta_tensors_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="pairs: inputs must have values"):
        many(1).to("meta").pairs()


def test_counts_and_sizes_of_padding_are_checked():
    targets = SegmentTargets.from_label_map(torch.zeros(1, 4, 4, dtype=torch.int64))
    for call, kind, message in (
        (lambda: targets.pairs(0), ValueError, "pairs: multiple must be at least 1, got 0"),
        (
            lambda: targets.pairs(2.5),  # type: ignore[arg-type]
            TypeError,
            r"pairs: multiple must be an integer, got 2\.5",
        ),
        (
            lambda: targets.pad_to(2.5, 4),  # type: ignore[arg-type]
            TypeError,
            r"pad_to: max_segments must be an integer, got 2\.5",
        ),
        (
            lambda: targets.pad_to(2, "4"),  # type: ignore[arg-type]
            TypeError,
            "pad_to: max_pairs must be an integer, got '4'",
        ),
        (
            lambda: SegmentTargets.collate([targets], "88"),  # type: ignore[arg-type]
            TypeError,
            "collate: size must be .height, width., got '88'",
        ),
        (
            lambda: SegmentTargets.collate([targets], (8.5, 8)),  # type: ignore[arg-type]
            TypeError,
            r"collate: size must be an integer, got 8\.5",
        ),
    ):
        with pytest.raises(kind, match=f"^{message}"):
            call()
    with pytest.raises(TypeError, match="MaskTargets: void must be a Tensor, got int"):
        MaskTargets(torch.zeros(1, 1, 4, 4), targets.labels, targets.num_segments, void=5)  # type: ignore[arg-type]
