"""The processors of EoMT beside those of transformers: padded and split images, fused stuff, ids from 0."""

from __future__ import annotations

import pytest
import torch
from post_processing_cases import SCORES, assert_same_maps, assert_same_results, both, is_left, outputs

transformers = pytest.importorskip("transformers")

KINDS = [kind for kind in ("", "Pil", "Fast") if hasattr(transformers, f"EomtImageProcessor{kind}")]
if not KINDS:
    pytest.skip("this version of transformers has no EoMT", allow_module_level=True)
if is_left(transformers.EomtImageProcessor()):
    pytest.skip("the processors of EoMT are left as they are in this version", allow_module_level=True)
CASES = [
    ({"shortest_edge": 40, "longest_edge": 56}, [(50, 61), (17, 90)]),
    ({"shortest_edge": 32, "longest_edge": None}, [(32, 32), (48, 33)]),
    ({"shortest_edge": 64, "longest_edge": 64}, [(64, 64), (97, 51)]),
    ({"shortest_edge": 18, "longest_edge": 25}, [[12, 11], [60, 99]]),
]


def processors(kind: str, size=None):
    options = {} if size is None else {"size": size}
    return both(getattr(transformers, f"EomtImageProcessor{kind}")(**options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", SCORES, ids=str)
@pytest.mark.parametrize(("size", "targets"), CASES, ids=str)
def test_semantic_maps(kind, size, targets, scores) -> None:
    ours, theirs = processors(kind, size)
    for seed in range(3):
        arguments = (outputs(seed), targets)
        found = ours.post_process_semantic_segmentation(*arguments, **scores)
        expected = theirs.post_process_semantic_segmentation(*arguments, **scores)
        assert_same_maps(found, expected)
        another = {"shortest_edge": 30, "longest_edge": 44}
        found = ours.post_process_semantic_segmentation(*arguments, size=another)
        assert_same_maps(found, theirs.post_process_semantic_segmentation(*arguments, size=another))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stuff", [None, [0, 2], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize(("size", "targets"), CASES, ids=str)
def test_panoptic_segments(kind, size, targets, stuff) -> None:
    ours, theirs = processors(kind, size)
    segments = 0
    for seed, overlap, mask in ((0, 0.8, 0.5), (1, 0.2, 0.4), (2, 0.1, 0.7), (3, 0.0, 0.5)):
        options = dict(threshold=0.4, mask_threshold=mask, overlap_mask_area_threshold=overlap, stuff_classes=stuff)
        found = ours.post_process_panoptic_segmentation(outputs(seed), targets, **options)
        expected = theirs.post_process_panoptic_segmentation(outputs(seed), targets, **options)
        segments += assert_same_results(found, expected)
    assert segments > 4


def test_a_share_at_the_threshold_is_not_enough() -> None:
    ours, theirs = processors("", {"shortest_edge": 4, "longest_edge": 8})
    given = outputs(0, images=1)
    given.class_queries_logits = torch.full((1, 2, 3), -9.0)
    given.class_queries_logits[0, 0, 0], given.class_queries_logits[0, 1, 1] = 4.5, 9.0
    given.masks_queries_logits = torch.full((1, 2, 4, 8), -9.0)
    given.masks_queries_logits[0, 0] = 9.0  # half of it is won by the other
    given.masks_queries_logits[0, 1, :, 4:] = 9.0
    for threshold, count in ((0.5, 1), (0.49, 2)):
        options = {"overlap_mask_area_threshold": threshold}
        found = ours.post_process_panoptic_segmentation(given, [(4, 8)], **options)
        assert (
            assert_same_results(found, theirs.post_process_panoptic_segmentation(given, [(4, 8)], **options)) == count
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.3, 0.8])
@pytest.mark.parametrize(("size", "targets"), CASES, ids=str)
def test_instances(kind, size, targets, threshold) -> None:
    ours, theirs = processors(kind, size)
    for seed in range(4):
        arguments = (outputs(seed), targets, threshold)
        found = ours.post_process_instance_segmentation(*arguments)
        assert_same_results(found, theirs.post_process_instance_segmentation(*arguments), score=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_as_transformers_does(kind) -> None:
    ours, theirs = processors(kind)
    given = outputs()
    given.class_queries_logits[..., -1] = 50.0
    for name in ("panoptic", "instance"):
        method = f"post_process_{name}_segmentation"
        found, expected = (getattr(one, method)(given, [(40, 39), (37, 57)]) for one in (ours, theirs))
        assert assert_same_results(found, expected) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", SCORES, ids=str)
def test_images_that_were_split_are_stitched(kind, scores) -> None:
    ours, theirs = processors(kind, {"shortest_edge": 32, "longest_edge": None})
    images = [
        torch.zeros(3, *size, dtype=torch.uint8).permute(1, 2, 0).numpy() for size in ((40, 90), (33, 33), (75, 41))
    ]
    inputs = theirs(images, do_split_image=True, return_tensors="pt")
    assert len(inputs["patch_offsets"]) == 6
    for targets in ([(40, 90), (33, 33), (75, 41)], [(20, 45), (50, 50), (150, 82)]):
        for seed in range(2):
            given = outputs(seed, images=6)
            given.patch_offsets = inputs["patch_offsets"]
            found = ours.post_process_semantic_segmentation(given, targets, **scores)
            expected = theirs.post_process_semantic_segmentation(given, targets, **scores)
            assert_same_maps(found, expected)


def test_patches_that_do_not_fit_fail_as_in_transformers() -> None:
    ours, theirs = processors("", {"shortest_edge": 32, "longest_edge": None})
    given = outputs(0, images=1)
    given.patch_offsets = [[0, 20, 52]]
    errors = []
    for one in (ours, theirs):
        with pytest.raises(RuntimeError) as caught:
            one.post_process_semantic_segmentation(given, [(40, 50)])
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
