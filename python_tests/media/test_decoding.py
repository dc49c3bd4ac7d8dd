"""Every decoder's error is one sentence; orientation survives damage; the limit of pixels names the way out."""

from __future__ import annotations

import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskformer_ext.errors import UserError
from maskformer_ext.media.decoding import as_stored, limit_pixels, open_image, upright
from maskformer_ext.media.images import read_image


def exif(*entries: tuple[int, int, int, bytes], extra: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0" * 4 + extra


TURN = (0x112, 3, 1, struct.pack("<HH", 6, 0))
DAMAGED = {
    "a date that is a float": exif(TURN, (0x132, 11, 1, struct.pack("<f", 1.5))),
    "a width that is a text": exif(TURN, (0x100, 2, 4, b"abc\0")),
    "a resolution that is a text": exif(TURN, (0x11A, 2, 4, b"abc\0")),
    "two dates": exif(TURN, (0x132, 3, 2, struct.pack("<HH", 1, 2))),
    "a resolution of 0/0": exif(TURN, (0x11A, 5, 1, struct.pack("<I", 38)), extra=struct.pack("<II", 0, 0)),
    "an offset beyond the end": exif(TURN, (0x11A, 5, 1, struct.pack("<I", 1 << 30))),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_damaged_tag_that_nobody_needs_does_not_matter(tmp_path: Path, damage: str, ending: str) -> None:
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(path, exif=DAMAGED[damage])
    assert tuple(read_image(path).shape) == (3, 40, 30)


@pytest.mark.parametrize("content", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX*\0" + b"\0" * 40])
def test_a_block_of_tags_that_is_no_such_block_leaves_the_photo_as_stored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(path, exif=content)
    assert tuple(read_image(path).shape) == (3, 30, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientations_and_their_absence(tmp_path: Path, orientation: int, ending: str, dtype: type) -> None:
    pixels: np.ndarray = (np.arange(12).reshape(3, 4) * (1 if dtype == np.uint8 else 1000)).astype(dtype)
    tags = Image.Exif()
    tags[0x112] = orientation
    path = tmp_path / f"label.{ending}"
    Image.fromarray(pixels).save(path, exif=tags)
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }[orientation]
    with open_image(path) as image:
        assert np.array_equal(np.asarray(upright(image)), expected)
    with open_image(path) as image:
        assert np.array_equal(np.asarray(as_stored(image)), pixels)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "gif", "bmp", "webp", "ppm", "avif"])
def test_cut_and_mutated_files_are_images_or_one_sentence(tmp_path: Path, ending: str, cut: float) -> None:
    path = tmp_path / f"photo.{ending}"
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for trial in range(20):
        content = bytearray(whole[: int(len(whole) * cut)] if trial == 0 else whole)
        for place in random.integers(0, max(1, int(len(content) * cut)), 8 if trial else 0):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            read_image(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)


def test_the_limit_of_pixels_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKFORMER_EXT_MAX_PIXELS", raising=False)
    path = tmp_path / "large.png"
    Image.new("1", (20000, 10000)).save(path)
    with pytest.raises(UserError, match=r"20000x10000 = 200000000 pixels.*max_pixels=200000000"):
        read_image(path)
    monkeypatch.setenv("MASKFORMER_EXT_MAX_PIXELS", "")
    limit_pixels(200_000_000)
    with open_image(path) as image:
        assert image.size == (20000, 10000)
    limit_pixels(100)
    with pytest.raises(UserError, match="limit of 100"):
        read_image(path)
    limit_pixels(None)
    assert Image.MAX_IMAGE_PIXELS is not None  # the process keeps Pillow's own setting


def test_formats_without_their_package_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x18ftypavif")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"maskformer-ext\[heif\]"):
        read_image(tmp_path / "a.HEIC")
    monkeypatch.setattr("PIL.features.check", lambda feature: None)
    with pytest.raises(UserError, match=r"this Pillow reads no AVIF: pip install 'pillow>=11\.3'"):
        read_image(tmp_path / "a.avif")


def test_threads_leave_pillows_own_limit_as_it_was(tmp_path: Path) -> None:
    path, before = tmp_path / "a.png", Image.MAX_IMAGE_PIXELS
    Image.new("RGB", (8, 8)).save(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_image(path), range(200)))
    assert before == Image.MAX_IMAGE_PIXELS
    with open_image(path), open_image(path):
        assert Image.MAX_IMAGE_PIXELS is None
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_file_that_is_no_image_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "it's.tif"
    path.write_bytes(b"II*\0 and then nothing of the kind")
    with pytest.raises(UserError) as raised, open_image(path):
        pass
    assert str(raised.value).count(str(path)) == 1 and "damaged, or of a format" in str(raised.value)


def test_a_png_that_ends_before_its_size_is_not_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match=r"a.png: cannot be read as an image \(it is damaged"), open_image(path):
        pass
