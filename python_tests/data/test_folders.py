"""Folder data sets: real files, what labels mean, and one sentence for everything that can be wrong with a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typed import expect

from maskformer_ext.config import DataConfig
from maskformer_ext.data import build_dataset
from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import read_image, to_pixels

_SIZE = (12, 16)  # height, width


def _save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def _picture(seed=0, shape=(*_SIZE, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def semantic(tmp_path):
    """Two images with labels 0, 1 and void, and their configuration."""
    for name in ("a", "b"):
        label = np.zeros(_SIZE, np.uint8)
        label[:, 8:], label[0] = 1, 255
        for split in ("train", "val"):
            _save(tmp_path / split / "images" / f"{name}.png", _picture())
            _save(tmp_path / split / "labels" / f"{name}.png", label)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return DataConfig(name="semantic_folder", root=str(tmp_path))


def _instances(tmp_path, label, content, task, name="x"):
    for split in ("train", "val"):
        _save(tmp_path / split / "images" / f"{name}.png", _picture(shape=(*label.shape, 3)))
        _save(tmp_path / split / "labels" / f"{name}.png", label)
    (tmp_path / "classes.json").write_text(json.dumps(content))
    return build_dataset(DataConfig(name="instance_folder", root=str(tmp_path), task=task), "train")


# --- what labels mean


def test_semantic_folder(semantic):
    dataset = build_dataset(semantic, "train")
    sample = dataset[1]
    assert len(dataset) == 2 and dataset.info.classes == ("cat", "dog") and dataset.info.thing_classes == ()
    assert sample.name == "b" and sample.size == _SIZE and sample.labels.tolist() == [0, 1]
    assert (sample.segment_map[0] == -1).all() and (sample.label_map()[1:, 8:] == 1).all()
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), _picture())


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_plain_ids_with_background(tmp_path, task):
    label = np.zeros((6, 9), np.uint16)
    label[1:3, 1:3], label[4:, 5:] = 700, 12
    sample = _instances(tmp_path, label, {"things": ["cell"], "stuff": ["background"]}, task)[0]
    expected = {"instance": [0, 0], "panoptic": [1, 0, 0], "semantic": [0, 1]}[task]
    assert sample.labels.tolist() == expected
    assert torch.equal(sample.label_map() == 0, torch.from_numpy(label > 0))
    assert bool((sample.segment_map == -1).any()) == (task == "instance")


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_id_divisor_tells_classes_apart(tmp_path, task):
    label = np.zeros((4, 8), np.uint16)
    label[0], label[1, :4], label[1, 4:], label[2, :2], label[2, 2:4] = 1000, 2000, 2001, 3000, 1007
    content = {"classes": ["road", "car", "person"], "things": ["car", "person"], "id_divisor": 1000}
    dataset = _instances(tmp_path, label, content, task)
    sample = dataset[0]
    if task == "instance":
        assert dataset.info.classes == ("car", "person") and dataset.info.thing_classes == (0, 1)
        assert sample.labels.tolist() == [0, 0, 1]
    elif task == "panoptic":
        assert dataset.info.thing_classes == (1, 2)
        assert sample.labels.tolist() == [0, 1, 1, 2]  # both ids of the road are one segment
    else:
        assert dataset.info.thing_classes == () and sample.labels.tolist() == [0, 1, 2]
    assert (sample.segment_map[3] == -1).all()


def test_image_without_instances(tmp_path):
    sample = _instances(tmp_path, np.zeros((5, 5), np.uint8), {"things": ["cell"]}, "instance")[0]
    assert len(sample.labels) == 0 and (sample.segment_map == -1).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_images_of_every_mode_become_rgb(semantic, mode):
    path = expect(PairedImages, build_dataset(semantic, "train")).pairs[0][1]
    grey = np.arange(_SIZE[0] * _SIZE[1], dtype=np.uint8).reshape(_SIZE)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 256)
    else:
        image = Image.fromarray(grey).convert(mode)
    image.save(path.with_suffix(".tif"))
    path.unlink()
    pixels = build_dataset(semantic, "train")[0].image
    assert pixels.shape == (3, *_SIZE) and pixels.dtype == torch.uint8
    if mode in ("L", "LA", "P", "RGBA", "I;16"):
        assert np.array_equal(pixels[1].numpy(), grey)


def test_images_of_other_colour_spaces_and_depths_become_rgb(tmp_path):
    colors = np.array([[[255, 0, 0], [0, 128, 0]], [[10, 20, 200], [255, 255, 255]]], np.uint8)
    for mode, tolerance in (("CMYK", 0), ("YCbCr", 2)):
        Image.fromarray(colors).convert(mode).save(tmp_path / "image.tif")
        pixels = read_image(tmp_path / "image.tif").permute(1, 2, 0).numpy()
        assert np.abs(pixels.astype(int) - colors).max() <= tolerance
    grey = (np.arange(6).reshape(2, 3) * 9_000).astype(">u2")
    for magic, samples in ((b"P5", grey), (b"P6", np.repeat(grey[..., None], 3, axis=2))):
        (tmp_path / "deep.ppm").write_bytes(magic + b" 3 2 65535 " + samples.tobytes())
        assert np.abs(read_image(tmp_path / "deep.ppm").numpy().astype(int) - grey // 256).max() <= 1


def test_images_are_turned_upright_before_they_meet_their_label(semantic):
    path = expect(PairedImages, build_dataset(semantic, "train")).pairs[0][1]
    upright = np.arange(_SIZE[0] * _SIZE[1], dtype=np.uint8).reshape(_SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    Image.fromarray(np.rot90(upright).copy()).save(path.with_suffix(".png"), exif=exif)
    assert np.array_equal(build_dataset(semantic, "train")[0].image[0].numpy(), upright)


@pytest.mark.parametrize("size", [(0, 0), (8, 0)])
def test_files_without_pixels_say_so(tmp_path, size):
    header = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + b"\x08\x02\0\0\0"
    (tmp_path / "empty.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + header + b"\0\0\0\0")
    for read in (read_image, read_label, read_color_ids):
        with pytest.raises(UserError, match=rf"empty\.png: cannot be read as .* \(it has {size[0]}x{size[1]} pixels\)"):
            read(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="image must have pixels"):
        to_pixels(Image.new("RGB", size))


def test_palette_labels_are_read_by_index(semantic):
    path = expect(PairedImages, build_dataset(semantic, "train")).pairs[0][2]
    image = Image.fromarray(np.ones(_SIZE, np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.save(path)
    assert build_dataset(semantic, "train")[0].labels.tolist() == [1]


def test_subfolders_are_searched(semantic, tmp_path):
    _save(tmp_path / "train/images/day/c.jpg", _picture())
    _save(tmp_path / "train/labels/day/c.png", np.ones(_SIZE, np.uint8))
    dataset = expect(PairedImages, build_dataset(semantic, "train"))
    assert [name for name, _, _ in dataset.pairs] == ["a", "b", "day/c"] and dataset[2].labels.tolist() == [1]


# --- what can be wrong


def _break(case, root):
    """Damage the data set of the fixture; return what the error must name."""
    image, label = root / "train/images/a.png", root / "train/labels/a.png"
    if case == "no label":
        label.unlink()
        return "a.png has no label"
    if case == "no image":
        image.unlink()
        return "labels/a.png has no image"
    if case == "two images of one name":
        _save(image.with_suffix(".jpg"), _picture())
        return "have the same name"
    if case == "size":
        _save(image, _picture(shape=(12, 17, 3)))
        return "labels/a.png is 16x12 pixels, but its image"
    if case == "class":
        _save(label, np.full(_SIZE, 2, np.uint8))
        return "labels/a.png holds the label 2"
    if case == "colour label":
        _save(label, _picture())
        return "labels/a.png has the mode RGB"
    if case == "truncated png":
        image.write_bytes(image.read_bytes()[:200])
        return "images/a.png"
    if case == "truncated jpeg":
        jpeg = _save(image.with_suffix(".jpg"), _picture(shape=(*_SIZE, 3)), quality=95)
        jpeg.write_bytes(jpeg.read_bytes()[:-120])
        image.unlink()
        return "images/a.jpg"
    if case == "empty file":
        image.write_bytes(b"")
        return "images/a.png: cannot be read as an image (the file is empty)"
    if case == "no pixels":
        content = bytearray(image.read_bytes())
        content[16:20] = bytes(4)  # the width in the header of a PNG
        image.write_bytes(content)
        return "images/a.png: cannot be read as an image (it has 0x12 pixels)"
    if case in ("floats", "32 bit"):
        values = np.full(_SIZE, 300, np.float32 if case == "floats" else np.int32)
        Image.fromarray(values).save(image.with_suffix(".tif"))
        image.unlink()
        return "an image must have 8 or 16 bits per channel, got the mode"
    if case == "no picture":
        label.write_text("labels")
        return "labels/a.png"
    for path in [*image.parent.iterdir(), *label.parent.iterdir()]:
        path.unlink()
    return "train/images holds no image"


_CASES = [
    *("no label", "no image", "two images of one name", "size", "class", "colour label", "truncated png"),
    *("truncated jpeg", "empty file", "no picture", "empty data set"),
    *("no pixels", "floats", "32 bit"),
]


@pytest.mark.parametrize("case", _CASES)
def test_one_sentence_names_the_file(semantic, tmp_path, case):
    expected = _break(case, tmp_path)
    with pytest.raises(UserError) as error:
        dataset = build_dataset(semantic, "train")
        for index in range(len(dataset)):
            dataset[index]
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_skipping_leaves_out_files_without_partner(semantic, tmp_path):
    _break("no label", tmp_path)
    semantic.on_error = "skip"
    dataset = expect(PairedImages, build_dataset(semantic, "train"))
    assert [name for name, _, _ in dataset.pairs] == ["b"] and len(dataset.problems) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"root": "/no/such/folder"}, "the folder /no/such/folder is missing"),
        ({"root": None}, "data.root is not set"),
        ({"train_images": "pictures"}, "pictures is missing"),
        ({"classes_file": "names.txt"}, "names.txt is missing"),
        ({"ignore_label": 1}, "data.ignore_label"),
        ({"task": "panoptic"}, "data.task must be semantic for semantic_folder, got 'panoptic'"),
        ({"name": "camvids"}, "coco_instance, got 'camvids' (did you mean camvid?)"),
        ({"on_error": "ignore"}, "data.on_error must be raise or skip"),
    ],
)
def test_configuration_mistakes_are_named(semantic, changes, sentence):
    for key, value in changes.items():
        setattr(semantic, key, value)
    with pytest.raises(UserError) as error:
        build_dataset(semantic, "train")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("content", "value", "sentence"),
    [
        ({"classes": ["a", "b"]}, 1, '"id_divisor"'),
        ({"classes": ["a"], "things": []}, 1, "at least one thing class"),
        ({"classes": ["a", "b"], "id_divisor": 100}, 300, "holds the id 300"),
        ({"classes": ["a", "b"], "id_divisor": 100}, 7, "holds the id 7"),
    ],
)
def test_instance_mistakes_are_named(tmp_path, content, value, sentence):
    with pytest.raises(UserError, match=sentence):
        _instances(tmp_path, np.full((4, 4), value, np.uint16), content, "instance")[0]


# --- real files


def test_camvid_agrees_with_its_label_images(data_dir):
    dataset = build_dataset(DataConfig(name="camvid", root=str(data_dir / "camvid")), "val")
    assert len(dataset) == 101 and dataset.info.num_classes == 11 and dataset.info.colors[0] == (128, 128, 128)
    assert len(build_dataset(DataConfig(name="camvid", root=str(data_dir / "camvid")), "train")) == 367
    for index in (0, 50, 100):
        sample = dataset[index]
        truth = np.array(Image.open(data_dir / "camvid/val/labels" / f"{sample.name}.png"))
        assert sample.image.shape == (3, 360, 480)
        assert np.array_equal(sample.label_map(255).numpy(), truth)


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_nuclei_keep_every_instance(data_dir, task):
    dataset = build_dataset(DataConfig(name="nuclei", root=str(data_dir / "nuclei"), task=task), "val")
    assert len(dataset) == 133 and dataset.info.thing_classes == (0,)
    for index in range(0, 133, 19):
        sample = dataset[index]
        ids = np.array(Image.open(data_dir / "nuclei/val/instances" / f"{sample.name}.png"))
        assert int((sample.labels == 0).sum()) == len(np.unique(ids[ids > 0]))
        owner = sample.segment_map.numpy()
        for number in np.unique(ids[ids > 0])[::9]:
            inside = np.unique(owner[ids == number])
            assert len(inside) == 1 and (owner == inside[0]).sum() == (ids == number).sum()
        assert (sample.segment_map == -1).any() == (task == "instance")


def test_real_data_are_found_by_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("MASKFORMER_EXT_DATA", str(data_dir))
    assert len(build_dataset(DataConfig(name="nuclei", task="instance"), "train")) == 405
