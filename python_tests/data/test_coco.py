"""COCO's two layouts: real annotations, and every way in which files can disagree."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from public_layouts import PANOPTIC_IDS, SIZE, coco_panoptic, panoptic_ids, photograph
from typed import present

from maskformer_ext.config import AugmentationConfig, Config, DataConfig, TrainConfig
from maskformer_ext.data import build_dataset, build_loader
from maskformer_ext.data.augmentation.transforms import Augment
from maskformer_ext.errors import UserError
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets


@pytest.fixture
def panoptic(tmp_path):
    """A COCO root with two small images in each split, and its configuration."""
    coco_panoptic(tmp_path)
    return DataConfig(name="coco_panoptic", root=str(tmp_path), task="panoptic", num_workers=0)


def _edit(root, change, name="panoptic_train2017"):
    path = root / "annotations" / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# --- what is read


def test_panoptic_segments(panoptic):
    dataset = build_dataset(panoptic, "train")
    sample = dataset[0]
    assert len(dataset) == 2 and dataset.info.num_classes == 133 and dataset.info.thing_classes == tuple(range(80))
    assert sample.name == "000000000012" and sample.labels.tolist() == [0, 0, 132]
    expected = np.searchsorted(PANOPTIC_IDS, panoptic_ids())
    assert np.array_equal(sample.segment_map.numpy(), np.where(panoptic_ids() == 0, -1, expected))


def test_crowds_are_void(panoptic, tmp_path):
    _edit(tmp_path, lambda content: content["annotations"][0]["segments_info"][1].update(iscrowd=1))
    dataset = build_dataset(panoptic, "train")
    assert dataset[0].labels.tolist() == [0, 132] and (dataset[0].segment_map[1:3] == -1).all()
    assert dataset[1].labels.tolist() == [0, 0, 132]  # the lookup table is clean again
    assert (dataset[0].segment_map[4:] == 1).all()
    panoptic.task = "semantic"  # whose pixels are of a known class
    assert build_dataset(panoptic, "train")[0].label_map()[1, 0] == 0


@pytest.mark.parametrize(("task", "labels"), [("panoptic", [0, 0, 132]), ("instance", [0, 0])])
def test_scores_know_the_crowds(panoptic, tmp_path, task, labels):
    _edit(tmp_path, lambda content: content["annotations"][0]["segments_info"][1].update(iscrowd=1))
    panoptic.task = task
    dataset = build_dataset(panoptic, "train")
    first, second = (dataset[index] for index in range(len(dataset)))
    truth = first.scored()
    assert truth.labels.tolist() == labels and present(truth.crowd).tolist() == [False, True, False][: len(labels)]
    assert (truth.segment_map[1:3] == 1).all() and truth.label_map()[1, 0] == 0
    assert second.truth is None and second.scored().segment_map is second.segment_map
    panoptic.augmentation.crop_size, panoptic.augmentation.min_sizes = [4, 4], []
    augmented = Augment(panoptic.augmentation, drop_empty_segments=False)(first, torch.Generator())
    assert augmented.truth is None  # it would not fit any more


def test_tasks_of_panoptic_segments(panoptic):
    panoptic.task = "instance"
    dataset = build_dataset(panoptic, "train")
    assert dataset.info.num_classes == 80 and dataset[0].labels.tolist() == [0, 0]
    assert (dataset[0].segment_map[4:] == -1).all()
    panoptic.task = "semantic"
    dataset = build_dataset(panoptic, "train")
    assert dataset.info.num_classes == 133 and dataset.info.thing_classes == ()
    assert dataset[0].labels.tolist() == [0, 132]


@pytest.mark.parametrize("name", ["coco-panoptic", "COCO_panoptic", "coco-panoptic-133"])
def test_other_spellings_of_a_name(panoptic, name):
    panoptic.name = name
    assert build_dataset(panoptic, "val").info.name == "coco_panoptic"


def test_the_folder_around_the_data_set_will_do(panoptic, tmp_path):
    inside = tmp_path / "coco"
    inside.mkdir()
    for path in list(tmp_path.iterdir()):
        if path != inside:
            path.rename(inside / path.name)
    assert len(build_dataset(panoptic, "train")) == 2


def _instances(root, annotations, *, size=SIZE):
    photograph(root / "train2017" / "a.png", size)
    photograph(root / "train2017" / "b.png", size)
    images = [{"id": n, "file_name": f"{name}.png", "height": 6, "width": 8} for n, name in enumerate("ab")]
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return build_dataset(DataConfig(name="coco_instance", root=str(root), task="instance"), "train")


def _square(number, left, top, side, category=90, **more):
    corners = [left, top, left + side, top, left + side, top + side, left, top + side]
    return {"id": number, "image_id": 0, "category_id": category, "segmentation": [corners], **more}


def test_instances_overlap_with_the_smaller_on_top(tmp_path):
    run_lengths = {"counts": [0, 6, 42], "size": [6, 8]}  # the first column
    crowd = {
        "id": 4,
        "image_id": 0,
        "category_id": 1,
        "iscrowd": 1,
        "segmentation": {"counts": [0, 48], "size": [6, 8]},
    }
    annotations = [
        _square(1, 2, 1, 2),
        _square(2, 1, 0, 5, category=1),
        {"id": 3, "image_id": 0, "category_id": 3, "segmentation": run_lengths},
        crowd,
    ]
    dataset = _instances(tmp_path, annotations)
    expected = np.full(SIZE, -1)
    expected[0:5, 1:6], expected[1:3, 2:4], expected[:, 0] = 1, 0, 2
    assert np.array_equal(dataset[0].segment_map.numpy(), expected) and dataset[0].labels.tolist() == [79, 0, 2]
    masks = dataset[0].masks
    assert masks.dtype == torch.bool and masks.sum((1, 2)).tolist() == [4, 25, 6] and masks[1, 0:5, 1:6].all()
    assert dataset[1].masks is None
    assert dataset[1].labels.tolist() == [] and (dataset[1].segment_map == -1).all()  # no annotation: kept
    whole = dataset[0].scored().instances
    assert [(true.label, true.area, true.crowd) for true in whole] == [
        (79, 4, False),
        (0, 25, False),
        (2, 6, False),
        (0, 48, True),
    ]
    assert dataset[1].scored().instances == ()


def test_an_instance_that_others_cover_is_there_while_overlaps_are_kept(tmp_path):
    covering = [_square(1, 1, 1, 2), _square(2, 1, 1, 2, category=1), _square(3, 4, 1, 2, category=3)]
    sample = _instances(tmp_path, covering)[0]
    assert sample.labels.tolist() == [79, 0, 2] and sample.masks.sum((1, 2)).tolist() == [4, 4, 4]
    flat = sample.without_overlaps()
    assert flat.labels.tolist() == [0, 2] and flat.masks is None
    assert torch.equal(flat.segment_map == 0, sample.masks[1])


@pytest.mark.parametrize("overlaps", [False, True])
def test_batches_of_instances_that_overlap(tmp_path, overlaps):
    _instances(tmp_path, [_square(1, 2, 1, 2), _square(2, 1, 0, 5, category=1)])
    augmentation = AugmentationConfig(min_sizes=[12], crop_size=[12, 10], color=False)
    data = DataConfig(
        name="coco_instance",
        root=str(tmp_path),
        task="instance",
        num_workers=0,
        overlaps=overlaps,
        augmentation=augmentation,
    )
    config = Config(data=data, train=TrainConfig(max_iters=3, batch_size=2))
    for batch in build_loader(config, "train"):
        with_instances = batch.names.index("a")
        masks = batch.targets if isinstance(batch.targets, MaskTargets) else batch.targets.to_masks()
        assert isinstance(batch.targets, MaskTargets if overlaps else SegmentTargets)
        assert masks.size == tuple(batch.images.shape[-2:]) and masks.num_segments.tolist().count(2) == 1
        small, large = masks.masks[with_instances]
        assert bool((small & large).any()) == (overlaps and bool(small.any()))
        void = present(masks.void)
        assert torch.equal(void[with_instances], ~(small | large)) and void[1 - with_instances].all()
        assert torch.equal(masks.pairs()[1][:2], torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("annotation", "size", "sentence"),
    [
        (_square(1, 0, 0, 2, category=12), SIZE, "annotation 1 of a.png has the category 12"),
        (_square(1, 0, 0, 2, category=200), SIZE, "has the category 200"),  # stuff is no instance
        (_square(1, 0, 0, 2), (6, 9), "a.png is 9x6 pixels, but"),
        (
            {**_square(1, 0, 0, 2), "segmentation": [[1, 2]]},
            SIZE,
            "a polygon must have x and y of three points or more",
        ),
        ({**_square(1, 0, 0, 2), "segmentation": "none"}, SIZE, "must be a list or an object, got 'none'"),
        (
            {**_square(1, 0, 0, 2), "segmentation": {"counts": []}},
            SIZE,
            "1 of a.png is neither polygons nor run lengths",
        ),
        ({**_square(1, 0, 0, 2), "segmentation": [[1, 1, 1e12, 1, 1, 5]]}, SIZE, "must lie in the image or near it"),
        ({**_square(1, 0, 0, 2), "segmentation": [[1, 1, math.nan, 1, 1, 5]]}, SIZE, "must lie in the image or near"),
        ({**_square(1, 0, 0, 2), "segmentation": {"counts": [0, 9], "size": [3, 3]}}, SIZE, "their size is [3, 3]"),
        ({**_square(1, 0, 0, 2), "area": "large"}, SIZE, "must be a whole number or a number, got 'large'"),
        ({"id": 1, "image_id": 0}, SIZE, 'annotation 1 has no "category_id"'),
        (_square(1, 0, 0, 2, image_id=8), SIZE, "annotation 1 is of image 8"),
    ],
)
def test_instance_mistakes_are_named(tmp_path, annotation, size, sentence):
    with pytest.raises(UserError) as error:
        _instances(tmp_path, [annotation], size=size)[0]
    assert sentence in str(error.value) and "\n" not in str(error.value)


# --- what can be wrong


def _set(path, value):
    def change(content):
        *inner, last = path
        for key in inner:
            content = content[key]
        content[last] = value

    return change


_FIRST = ("annotations", 0, "segments_info", 0)
_PANOPTIC_MISTAKES = {
    "category": (_set((*_FIRST, "category_id"), 12), "segment 7 of 000000000012.png has the category 12"),
    "id not in the PNG": (_set((*_FIRST, "id"), 8), "holds the segment id 7, which"),
    "segment without pixels": (
        lambda content: content["annotations"][0]["segments_info"].append({"id": 9, "category_id": 1}),
        "has no pixel of the segment id 9, which",
    ),
    "same id twice": (_set((*_FIRST, "id"), 70_000), "the segment ids of 000000000012.png must differ"),
    "unknown image": (_set(("annotations", 0, "image_id"), 99), "000000000012.png is of image 99"),
    "image without annotation": (lambda content: content["annotations"].pop(), "000000000005.jpg has no annotation"),
    "zero size": (_set(("images", 0, "height"), 0), "must have a positive size, got 8x0 pixels"),
    "another size": (_set(("images", 0, "height"), 7), "000000000012.png is 8x6 pixels, but"),
    "no images": (lambda content: content.pop("images"), 'has no list "images"'),
    "no file name": (lambda content: content["images"][0].pop("file_name"), 'image 12 has no "file_name"'),
    "text for a category": (_set((*_FIRST, "category_id"), "cat"), "of segment 7 must be a whole number, got 'cat'"),
    "text for an id": (_set((*_FIRST, "id"), "seven"), "of segment seven must be a whole number, got 'seven'"),
    "number for a file": (_set(("annotations", 0, "file_name"), 12), "must be text, got 12"),
    "list for an image": (_set(("images", 0, "id"), [12]), "must be a whole number or text, got [12]"),
    "no segments": (_set(("annotations", 0, "segments_info"), None), 'has no "segments_info"'),
    "same image twice": (_set(("images", 1, "id"), 12), "the image id 12 occurs twice"),
}


@pytest.mark.parametrize("case", _PANOPTIC_MISTAKES)
def test_panoptic_mistakes_are_named(panoptic, tmp_path, case):
    change, sentence = _PANOPTIC_MISTAKES[case]
    _edit(tmp_path, change)
    with pytest.raises(UserError) as error:
        build_dataset(panoptic, "train")[0]
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert "panoptic_train2017" in str(error.value)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "train2017/000000000012.jpg").unlink(), "000000000012.jpg: no such image file"),
        (lambda root: (root / "train2017/000000000012.jpg").write_bytes(b""), "000000000012.jpg: cannot be read"),
        (lambda root: photograph(root / "train2017/000000000012.jpg", (6, 9)), "but its image"),
        (lambda root: (root / "annotations/panoptic_train2017/000000000012.png").unlink(), "no such label image"),
        (
            lambda root: Image.new("L", (8, 6)).save(root / "annotations/panoptic_train2017/000000000012.png"),
            "has the mode L",
        ),
        (lambda root: (root / "annotations/panoptic_train2017.json").write_text("{"), "is not valid JSON"),
        (lambda root: (root / "annotations/panoptic_train2017.json").unlink(), "panoptic_train2017.json is missing"),
        (lambda root: (root / "train2017").rename(root / "train"), "train2017 is missing"),
    ],
)
def test_damaged_files_are_named(panoptic, tmp_path, damage, sentence):
    damage(tmp_path)
    with pytest.raises(UserError) as error:
        build_dataset(panoptic, "train")[0]
    assert sentence in str(error.value) and str(tmp_path) in str(error.value)


def test_skipping_counts_and_reports_what_disagrees(panoptic, tmp_path):
    _edit(tmp_path, _PANOPTIC_MISTAKES["category"][0])
    _edit(tmp_path, lambda content: content["images"].append({**content["images"][0], "id": 3, "file_name": "c.jpg"}))
    panoptic.on_error, panoptic.augmentation.crop_size, panoptic.augmentation.min_sizes = "skip", [4, 4], []
    config = Config(data=panoptic)
    config.train.max_iters, config.train.batch_size = 2, 2
    loader = build_loader(config, "train")
    names = {name for batch in loader for name in batch.names}
    assert names == {"000000000005"} and len(loader.skipped) == 2
    assert "c.jpg has no annotation" in loader.skipped[0] and "has the category 12" in loader.skipped[1]


# --- real files


@pytest.fixture
def real_panoptic(data_dir, tmp_path):
    """The two photographs of COCO's panoptic examples, laid out as COCO's validation split."""
    source = data_dir / "coco_panoptic2"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(source / "input_images")
    (tmp_path / "annotations/panoptic_val2017").symlink_to(source / "panoptic_examples")
    (tmp_path / "annotations/panoptic_val2017.json").symlink_to(source / "panoptic_examples.json")
    return tmp_path


def test_real_panoptic_areas_and_classes(real_panoptic, data_dir):
    dataset = build_dataset(DataConfig(name="coco_panoptic", root=str(real_panoptic), task="panoptic"), "val")
    source = data_dir / "coco_panoptic2"
    categories = json.loads((source / "panoptic_coco_categories.json").read_text())
    assert dataset.info.classes == tuple(category["name"] for category in categories)
    assert dataset.info.colors == tuple(tuple(category["color"]) for category in categories)
    assert dataset.info.thing_classes == tuple(i for i, category in enumerate(categories) if category["isthing"])
    names = {category["id"]: category["name"] for category in categories}
    for index, annotation in enumerate(json.loads((source / "panoptic_examples.json").read_text())["annotations"]):
        sample = dataset[index]
        areas = torch.bincount(sample.segment_map.flatten() + 1)[1:].tolist()
        found = [(dataset.info.classes[label], area) for label, area in zip(sample.labels.tolist(), areas, strict=True)]
        segments = [s for s in annotation["segments_info"] if not s["iscrowd"]]
        assert found == [(names[s["category_id"]], s["area"]) for s in segments]


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_instances_agree_with_pycocotools(data_dir, split):
    coco = pytest.importorskip("pycocotools.coco")
    root = data_dir / "coco_tiny"
    dataset = build_dataset(DataConfig(name="coco_instance", root=str(root), task="instance"), split)
    truth = coco.COCO(str(root / "annotations" / f"instances_{split}2017.json"))
    assert len(dataset) == 50 and dataset.info.num_classes == 80 and dataset.info.classes[79] == "toothbrush"
    by_name = {entry["file_name"].split(".")[0]: entry["id"] for entry in truth.imgs.values()}
    for index in range(0, 50, 7):
        sample = dataset[index]
        annotations = truth.loadAnns(truth.getAnnIds(by_name[sample.name], iscrowd=False))
        covered = np.zeros(sample.size, bool)
        for annotation in annotations:
            covered |= truth.annToMask(annotation) > 0
        assert np.array_equal(sample.segment_map.numpy() >= 0, covered)
        expected = {truth.cats[annotation["category_id"]]["name"] for annotation in annotations}
        assert {dataset.info.classes[label] for label in sample.labels.tolist()} == expected
        own = [truth.annToMask(annotation) > 0 for annotation in annotations]
        if sample.masks is not None:
            assert np.array_equal(sample.masks.numpy(), np.array([mask for mask in own if mask.any()]))
        else:
            assert np.sum(own, axis=0).max(initial=0) <= 1
