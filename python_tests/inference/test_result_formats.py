"""Results in the formats of others: COCO, COCO panoptic, YOLO, supervision; each holds the masks that were found."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted_results import PAINTED, TASKS, painted
from skimage.draw import polygon2mask

from maskformer_ext.data.types import FileIds
from maskformer_ext.errors import UserError
from maskformer_ext.inference.results import PanopticResult, as_result
from maskformer_ext.inference.results.outlines import joined_polygon, mask_polygons, polygon_area


def _blob(size: tuple[int, int], seed: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(np.random.default_rng(seed).random(size), 3) > 0.5


def _as_panoptic(mask: np.ndarray) -> PanopticResult:
    info = {"id": 1, "category_id": 1, "isthing": True, "score": 0.9, "area": int(mask.sum())}
    return as_result(PanopticResult(torch.from_numpy(mask.astype(np.int32)), [info]), info=PAINTED)  # type: ignore


def _filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels (H, W) whose centres lie in a polygon of x and y."""
    return polygon2mask(size, points[:, ::-1] - 0.5)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("task", TASKS)
def test_run_lengths_are_read_by_cocos_packages(task: str) -> None:
    result, _, _ = painted(task)
    lengths = result.to_rle()
    assert len(lengths) == len(result)
    for package in ("pycocotools.mask", "faster_coco_eval.core.mask"):
        coco = pytest.importorskip(package)
        for part, rle in zip(result, lengths, strict=True):
            assert rle == part.rle()
            np.testing.assert_array_equal(coco.decode(rle).astype(bool), part.mask)
            assert int(coco.area(rle)) == part.area


@pytest.mark.parametrize("task", TASKS)
def test_annotations_of_coco(task: str) -> None:
    result, _, _ = painted(task)
    annotations = result.to_coco(image_id=7, category_ids=[10, 20, 30])
    assert [a["id"] for a in annotations] == list(range(1, len(result) + 1))
    for annotation, part in zip(annotations, result, strict=True):
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == part.box and annotation["area"] == part.area
        assert annotation["image_id"] == 7 and annotation["category_id"] == 10 * (part.label + 1)
        assert annotation["segmentation"] == part.rle() and annotation["iscrowd"] == 0
        assert annotation.get("score") == part.score
    assert [a["category_id"] for a in result.to_coco()] == [part.label + 1 for part in result]
    assert [a["category_id"] for a in result.to_coco(category_ids={0: 3, 1: 4, 2: 5})] == [p.label + 3 for p in result]


def test_ids_of_the_annotation_file_are_used() -> None:
    info = PAINTED.with_file_ids(FileIds((100, 200, 300), {}))
    result, _, _ = painted("instance", info=info)
    assert {a["category_id"] for a in result.to_coco()} <= {200, 300}
    result, _, _ = painted("instance", info=info, thing_classes=(1,))  # which makes another table of things
    assert {a["category_id"] for a in result.to_coco()} == {200}


def test_unlikely_instances_are_left_out_where_asked_for() -> None:
    result, _, _ = painted("instance")
    assert len(result.to_coco()) == len(result) > 6
    assert len(result.to_coco(min_score=0.5)) == len(result.to_yolo()) == 6
    assert len(result.to_yolo(min_score=0)) == len(result)


def test_ids_that_do_not_fit_are_named() -> None:
    result, _, _ = painted("panoptic")
    with pytest.raises(ValueError, match="to_coco: category_ids must have one id for each of 3 classes, got 2"):
        result.to_coco(category_ids=[1, 2])
    with pytest.raises(ValueError, match=r"to_coco_panoptic: category_ids has no id for the class \d \((box|tile)\)"):
        result.to_coco_panoptic(category_ids={0: 1})


def test_the_panoptic_pair_holds_the_segments() -> None:
    result, _, _ = painted("panoptic")
    first, *others = result.segments_info
    ids = result.segment_map.masked_fill(result.segment_map == first["id"], 70_000)
    result = replace(result, segment_map=ids, segments_info=[{**first, "id": 70_000}, *others])
    picture, entry = result.to_coco_panoptic(image_id="x", category_ids=(5, 6, 7))
    colors = np.asarray(picture).astype(np.int64)
    np.testing.assert_array_equal(colors @ (1, 256, 65536), result.segment_map.numpy())
    assert entry["image_id"] == "x" and entry["file_name"] == "image.png"
    for segment, part in zip(entry["segments_info"], result, strict=True):
        assert segment["id"] == part.id and segment["category_id"] == part.label + 5
        assert segment["area"] == part.mask.sum() and segment["bbox"][:2] == list(part.box[:2])


@pytest.mark.parametrize("seed", range(6))
def test_polygons_of_yolo_cover_the_mask_without_its_holes(seed: int) -> None:
    from scipy.ndimage import binary_fill_holes

    mask = _blob((60, 90), seed)
    (line,) = _as_panoptic(mask).to_yolo()
    label, *numbers = line.split()
    points = np.array(numbers, dtype=float).reshape(-1, 2)
    assert label == "1" and points.min() >= 0 and points.max() <= 1 and len(points) >= 3
    assert _iou(_filled(points * (90, 60), (60, 90)), binary_fill_holes(mask)) > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5)])
def test_whole_masks_of_any_size_are_covered(size: tuple[int, int]) -> None:
    whole = np.ones(size, dtype=bool)
    (line,) = _as_panoptic(whole).to_yolo()
    points = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * size[::-1]
    assert len(points) >= 3 and _filled(points, size).all()
    exact = mask_polygons(whole, (0, 0, size[1], size[0]), tolerance=0)
    assert polygon_area(exact[0]) == pytest.approx(size[0] * size[1] - 0.5)  # the corners of pixels are cut


def test_parts_are_joined_and_islands_in_holes_are_no_parts() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[2:20, 2:20] = True
    mask[5:17, 5:17] = False
    mask[9:12, 9:12] = True  # an island in the hole
    mask[22:26, 30:38] = True
    mask[26, 38] = True  # touches at a corner
    parts = mask_polygons(mask, (2, 2, 39, 27), tolerance=0)
    assert len(parts) == 2 and polygon_area(parts[0]) > polygon_area(parts[1])
    filled = mask.copy()
    filled[2:20, 2:20] = True
    np.testing.assert_array_equal(_filled(joined_polygon(parts), (30, 40)), filled)
    with pytest.raises(ValueError, match="tolerance must be a number of pixels, 0 or more, got -1"):
        mask_polygons(mask, (2, 2, 39, 27), tolerance=-1)


def test_segments_have_polygons_of_their_own() -> None:
    result, _, _ = painted("instance")
    for part in result[result.scores > 0.5]:
        (points,) = part.polygons()
        assert _iou(_filled(points, result.size), part.mask) > 0.95


def test_lines_of_yolo_are_things_only(tmp_path: Path) -> None:
    panoptic, _, labels = painted("panoptic")
    lines = panoptic.to_yolo(tmp_path / "labels" / "x.txt", scores=True)
    assert sorted(int(line.split()[0]) for line in lines) == sorted(label for label in labels if label != 0)
    assert (tmp_path / "labels" / "x.txt").read_text() == "".join(f"{line}\n" for line in lines)
    assert all(len(line.split()) % 2 == 0 and 0.9 < float(line.split()[-1]) <= 1 for line in lines)
    panoptic.to_yolo(tmp_path)
    assert (tmp_path / "image.txt").is_file()


def test_a_semantic_result_has_no_lines_of_yolo() -> None:
    with pytest.raises(ValueError, match="tells no things apart: segment with task='panoptic' or 'instance'"):
        painted("semantic")[0].to_yolo()


@pytest.mark.filterwarnings("ignore:OpenCV")
@pytest.mark.parametrize("task", TASKS)
def test_detections_of_supervision_are_the_segments(task: str) -> None:
    supervision = pytest.importorskip("supervision")
    result, _, _ = painted(task)
    detections: Any = result.to_supervision(min_score=0)
    assert isinstance(detections, supervision.Detections) and len(detections) == len(result)
    np.testing.assert_array_equal(detections.mask, np.stack([part.mask for part in result]))
    np.testing.assert_array_equal(detections.xyxy, [part.box for part in result])
    assert detections.class_id.tolist() == [part.label for part in result]
    assert detections["class_name"].tolist() == [part.name for part in result]
    if task == "semantic":
        assert detections.confidence is None
    else:
        np.testing.assert_allclose(detections.confidence, [part.score for part in result], rtol=1e-6)
    if task == "instance":
        likely = result.to_supervision()
        assert len(likely) == 6 and (likely.confidence >= 0.5).all()
        assert len(detections[detections.confidence > 2]) == len(result[:0].to_supervision()) == 0


def test_without_supervision_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _, _ = painted("instance")
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"needs the package supervision: pip install 'maskformer-ext\[results\]'"):
        result.to_supervision()
