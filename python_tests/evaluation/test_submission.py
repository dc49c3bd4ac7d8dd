"""Submission files, read back as the benchmarks read them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene
from PIL import Image
from typed import expect

from maskformer_ext.config import Config
from maskformer_ext.data.preparing.writers import WritePanoptic
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError
from maskformer_ext.evaluation.run import evaluate
from maskformer_ext.evaluation.submission import COCO_CATEGORY_IDS, CocoInstanceWriter, create_writer

SIZES = ((40, 50), (31, 64), (50, 40))
NAMES = ("000000000139", "val/000000000285.jpg", "000000000632")
IDS = [139, 285, 632]


def _info(count: int) -> DatasetInfo:
    names = tuple(f"class {k}" for k in range(count))
    return DatasetInfo("painted", names, ((90, 90, 90),) * count, thing_classes=tuple(range(1, count)))


class Painted:
    """Three painted scenes with a background of class 0 and things of classes 1 and 2."""

    def __init__(self, num_classes: int, names: tuple[str, ...] = NAMES) -> None:
        self.info, self.names = _info(num_classes), names

    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> Sample:
        segments, labels = scene(SIZES[index], things=4, seed=index)
        image = torch.from_numpy(paint(segments, labels)).permute(2, 0, 1)
        segment_map = torch.from_numpy(segments - 1).int()
        return Sample(image, segment_map, torch.tensor(labels), self.names[index], SIZES[index])


def _evaluate(format: str, folder: Path, data: Painted, limit: int = 255) -> dict:
    config = Config()
    config.data.task = "panoptic"
    writer = create_writer(format, folder, data.info)
    config.inference.tasks = [writer.task]
    count = data.info.num_classes
    return evaluate(PaintModel(count, limit=limit), data, config, writer=writer)


def _png(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_ade20k_takes_class_ids_from_one(tmp_path: Path) -> None:
    data = Painted(5)
    _evaluate("ade20k", tmp_path, data)
    for index, stem in enumerate(("000000000139", "val/000000000285", "000000000632")):
        found = _png(tmp_path / f"{stem}.png")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, data[index].label_map().numpy() + 1)


def test_cityscapes_takes_label_ids(tmp_path: Path) -> None:
    names = tuple(f"frankfurt/frankfurt_00000{i}_000294_leftImg8bit.png" for i in range(3))
    data = Painted(19, names)
    _evaluate("cityscapes", tmp_path, data)
    for index in range(3):
        found = _png(tmp_path / f"frankfurt_00000{index}_000294_pred_labelIds.png")
        np.testing.assert_array_equal(found, np.array([7, 8, 11])[data[index].label_map().numpy()])


def test_mapillary_takes_its_labels(tmp_path: Path) -> None:
    data = Painted(65, ("aB-1_c", "d.jpg", "e"))
    _evaluate("mapillary_vistas", tmp_path, data)
    for index, stem in enumerate(("aB-1_c", "d", "e")):
        np.testing.assert_array_equal(_png(tmp_path / f"{stem}.png"), data[index].label_map().numpy())


def test_ade20k_panoptic_results_match_the_truth_that_prepare_writes(tmp_path: Path) -> None:
    data = Painted(150, tuple(f"ADE_val_0000000{index}" for index in range(3)))
    _evaluate("ade20k_panoptic", tmp_path, data)
    (tmp_path / "truth").mkdir()
    prepare_image = WritePanoptic(data, tmp_path / "truth")
    found = json.loads((tmp_path / "panoptic_results.json").read_text())["annotations"]
    for index, entry in enumerate(found):
        image, truth = prepare_image(index)
        assert entry["image_id"] == image["id"] and entry["file_name"] == truth["file_name"]
        maps = []
        for folder, segments in (("panoptic_results", entry), ("truth", truth)):
            ids = _png(tmp_path / folder / entry["file_name"]).astype(int) @ [1, 256, 65536]
            category = {segment["id"]: segment["category_id"] for segment in segments["segments_info"]}
            maps.append(np.vectorize(category.__getitem__)(ids))
        np.testing.assert_array_equal(*maps)


def test_coco_panoptic_json_and_pngs_describe_the_same_segments(tmp_path: Path) -> None:
    data = Painted(133)
    _evaluate("coco_panoptic", tmp_path, data)
    entries = json.loads((tmp_path / "panoptic_results.json").read_text())["annotations"]
    assert [entry["image_id"] for entry in entries] == IDS
    for index, entry in enumerate(entries):
        colors = _png(tmp_path / "panoptic_results" / entry["file_name"]).astype(int)
        ids = colors @ [1, 256, 65536]
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in entry["segments_info"]}
        table = np.zeros(ids.max() + 1, dtype=int)
        for segment in entry["segments_info"]:
            table[segment["id"]] = segment["category_id"]
        np.testing.assert_array_equal(table[ids], np.array([1, 2, 3])[data[index].label_map().numpy()])


def test_coco_instances_score_with_pycocotools_what_was_reported(tmp_path: Path) -> None:
    coco_masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is the reference here")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = Painted(80)
    reported = _evaluate("coco_instance", tmp_path, data, limit=4)  # does not see all things
    assert 0 < reported["AP"] < 1
    truths: list[dict[str, Any]] = []
    for image_id, sample in zip(IDS, (data[i] for i in range(3)), strict=True):
        for index, label in enumerate(sample.labels.tolist()):
            if label in data.info.thing_classes:
                mask = np.asfortranarray(sample.segment_map.numpy() == index).astype(np.uint8, order="F")
                entry = {"image_id": image_id, "category_id": COCO_CATEGORY_IDS[80][label], "iscrowd": 0}
                rle = coco_masks.encode(mask)
                truths.append({"id": len(truths) + 1, "segmentation": rle, "area": int(mask.sum()), **entry})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "height": h, "width": w} for i, (h, w) in zip(IDS, SIZES, strict=True)],
            "categories": [{"id": number} for number in COCO_CATEGORY_IDS[80]],
            "annotations": truths,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "instance_results.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = (reported["AP"], reported["AP50"], reported["AP75"])
    assert tuple(evaluation.stats[:3]) == pytest.approx(expected, abs=1e-12)


def test_coco_category_ids_are_those_of_its_files(data_dir: Path) -> None:
    categories = json.loads((data_dir / "coco_panoptic2" / "panoptic_coco_categories.json").read_text())
    assert list(COCO_CATEGORY_IDS[133]) == [category["id"] for category in categories]
    assert list(COCO_CATEGORY_IDS[80]) == [category["id"] for category in categories if category["isthing"]]


def test_images_without_a_number_count_from_one(tmp_path: Path) -> None:
    _evaluate("coco_panoptic", tmp_path, Painted(4, ("a", "b.c", "d.png")))
    entries = json.loads((tmp_path / "panoptic_results.json").read_text())["annotations"]
    assert [(entry["image_id"], entry["file_name"]) for entry in entries] == [
        (1, "a.png"),
        (2, "b.c.png"),
        (3, "d.png"),
    ]
    assert {segment["category_id"] for entry in entries for segment in entry["segments_info"]} == {1, 2, 3}


def test_entries_of_several_processes_are_joined_in_order(tmp_path: Path) -> None:
    first, second = (expect(CocoInstanceWriter, create_writer("coco_instance", tmp_path, _info(3))) for _ in range(2))
    first.entries, second.entries = [{"image_id": 2}, {"image_id": 9}], [{"image_id": 5}]
    first.merge(second.state())
    assert [entry["image_id"] for entry in json.loads(first.finish().read_text())] == [2, 5, 9]


@pytest.mark.parametrize(
    ("format", "count", "message"),
    [
        ("kitti", 3, "format must be one of ade20k, ade20k_panoptic, cityscapes, .*, got 'kitti'"),
        ("ade20", 3, r"got 'ade20' \(did you mean ade20k\?\)"),
        ("cityscapes", 3, "takes its 19 classes, got 3"),
        ("ade20k", 847, "at most 255 classes, got 847"),
    ],
)
def test_formats_that_do_not_fit_are_refused(format: str, count: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        create_writer(format, tmp_path, _info(count))


def test_a_submission_of_what_is_not_evaluated_is_refused(tmp_path: Path) -> None:
    config, data = Config(), Painted(4)
    config.data.task = "semantic"
    with pytest.raises(UserError, match="holds panoptic results, but evaluated is semantic only"):
        evaluate(PaintModel(4), data, config, writer=create_writer("coco_panoptic", tmp_path, data.info))
