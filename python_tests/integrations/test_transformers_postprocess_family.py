"""The processors of Mask2Former, OneFormer, DETR and Conditional DETR beside those of transformers."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from post_processing_cases import CLASSES, SCORES, assert_same_maps, assert_same_results, both, outputs

from maskformer_ext.integrations.transformers_models.parts import is_older_than

transformers = pytest.importorskip("transformers")

NAMES = [
    name + kind
    for name in ("MaskFormer", "Mask2Former", "OneFormer", "Detr", "ConditionalDetr")
    for kind in ("", "Pil")
    if kind == "" or hasattr(transformers, "MaskFormerImageProcessorPil")
]
SIZES = [None, [(50, 61), (17, 90)], [[9, 11], [20, 28]], torch.tensor([[31, 40], [20, 28]])]
THINGS = [1, 3, 4]
_SUM = 2e-6
"""A score rounds to six digits, and its mean mask probability is summed more exactly than by transformers."""


def processors(name: str, tmp_path):
    model, kind = name.removesuffix("Pil"), "pil_" if name.endswith("Pil") else ""
    folder = {"Mask2Former": "mask2former", "ConditionalDetr": "conditional_detr"}.get(model, model.lower())
    module = importlib.import_module(f"transformers.models.{folder}.image_processing_{kind}{folder}")
    options = {}
    if model == "OneFormer":
        info = {str(k): {"name": str(k), "isthing": k in THINGS} for k in range(CLASSES)}
        (tmp_path / "ade20k_info.json").write_text(json.dumps(info))
        options = {"repo_path": str(tmp_path), "class_info_file": "ade20k_info.json"}
        if is_older_than(4, 34):
            pytest.skip("this version of transformers reads the classes of OneFormer from the hub only")
    return both(getattr(module, f"{model}ImageProcessor{'Pil' if kind else ''}")(**options))


def as_theirs(sizes):
    return [tuple(size) for size in sizes.tolist()] if isinstance(sizes, torch.Tensor) else sizes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("scores", SCORES, ids=str)
def test_semantic_maps(name, sizes, scores, tmp_path) -> None:
    ours, theirs = processors(name, tmp_path)
    for seed in range(2):
        found = ours.post_process_semantic_segmentation(outputs(seed), sizes, **scores)
        assert_same_maps(found, theirs.post_process_semantic_segmentation(outputs(seed), as_theirs(sizes), **scores))
    with pytest.raises(ValueError, match="as many target sizes"):
        ours.post_process_semantic_segmentation(outputs(), [(40, 40)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("fused", [None, {0, 2}, set(range(CLASSES))], ids=str)
def test_panoptic_segments(name, sizes, fused, tmp_path) -> None:
    ours, theirs = processors(name, tmp_path)
    segments = 0
    for seed, overlap, mask in ((0, 0.8, 0.5), (1, 0.2, 0.4), (2, 0.1, 0.7)):
        options = dict(threshold=0.4, mask_threshold=mask, overlap_mask_area_threshold=overlap, label_ids_to_fuse=fused)
        found = ours.post_process_panoptic_segmentation(outputs(seed), target_sizes=sizes, **options)
        expected = theirs.post_process_panoptic_segmentation(outputs(seed), target_sizes=as_theirs(sizes), **options)
        segments += assert_same_results(found, expected)
    assert segments > 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("form", [{}, {"return_coco_annotation": True}, {"return_binary_maps": True}], ids=str)
def test_instances(name, sizes, form, tmp_path) -> None:
    if "return_binary_maps" in form and not name.startswith("Mask"):
        return
    ours, theirs = processors(name, tmp_path)
    segments = 0
    for seed, threshold in ((0, 0.3), (1, 0.2), (2, 0.99)):
        given = outputs(seed)
        given.masks_queries_logits[0, 0] = -1
        given.masks_queries_logits[0, 0, 3, 5] = 9  # one pixel, which a smaller size may not look at
        options = {"threshold": threshold, "overlap_mask_area_threshold": 0.3, **form}
        found = ours.post_process_instance_segmentation(given, target_sizes=sizes, **options)
        expected = theirs.post_process_instance_segmentation(given, target_sizes=as_theirs(sizes), **options)
        segments += assert_same_results(found, expected, _SUM)
    assert segments > 2


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("OneFormer")])
@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("demo", [False, True])
def test_instances_of_oneformer_by_task(name, task, demo, tmp_path) -> None:
    ours, theirs = processors(name, tmp_path)
    for seed in range(3):
        given = outputs(seed)
        others = [k for k in range(CLASSES) if k not in THINGS]
        given.class_queries_logits[..., others] = -30 if not demo and task == "instance" else 0
        given.class_queries_logits = given.class_queries_logits[:, :3]
        given.masks_queries_logits = given.masks_queries_logits[:, :3]
        options = dict(is_demo=demo, threshold=0.1, overlap_mask_area_threshold=0.05, target_sizes=[(40, 50), (33, 34)])
        found = ours.post_process_instance_segmentation(given, task, **options)
        assert_same_results(found, theirs.post_process_instance_segmentation(given, task, **options))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_as_transformers_does(name, tmp_path) -> None:
    ours, theirs = processors(name, tmp_path)
    given = outputs()
    given.logits[..., -1] = 50.0
    for kind in ("panoptic", "instance"):
        for options in ({"target_sizes": [(40, 39), (37, 57)]}, {}):
            method = f"post_process_{kind}_segmentation"
            found, expected = (getattr(one, method)(given, **options) for one in (ours, theirs))
            assert assert_same_results(found, expected) == 0
