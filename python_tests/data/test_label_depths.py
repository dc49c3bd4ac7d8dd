"""Label images of every depth: the numbers in the file, or one sentence that names it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from label_files import bmp, pbm, pgm, png, tiff
from PIL import Image

from maskformer_ext.data.formats.labels import read_color_ids, read_label
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import read_image


def _numbers(largest, shape=(5, 7)):
    return np.random.default_rng(largest).integers(0, min(largest, 65535) + 1, shape)


def _check(path, numbers):
    found = read_label(path)
    assert found.dtype in (np.uint8, np.uint16) and np.array_equal(found, numbers)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png(tmp_path, bits):
    numbers = _numbers((1 << bits) - 1)
    _check(png(tmp_path / "a.png", numbers, bits), numbers)
    _check(png(tmp_path / "b.png", numbers, bits, chunks=[(b"tRNS", b"\0\1")]), numbers)  # one number is transparent
    _check(png(tmp_path / "d.png", numbers, bits, interlaced=True), numbers)
    if bits <= 8:
        _check(png(tmp_path / "c.png", numbers % 64, bits, palette=True), numbers % 64)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_photographs_of_few_bits_use_the_whole_range(tmp_path, bits):
    numbers = np.arange(1 << bits)[None].repeat(3, axis=0)
    pixels = read_image(png(tmp_path / "a.png", numbers, bits))
    assert pixels[0, 0].tolist() == (np.arange(1 << bits) * (255 // ((1 << bits) - 1))).tolist()


def test_photographs_of_12_bits_use_the_whole_range(tmp_path):
    pixels = read_image(tiff(tmp_path / "a.tif", np.array([[0, 16, 4095]]), 12))
    assert pixels[:, 0].tolist() == [[0, 1, 255]] * 3


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_photographs_whose_white_is_zero(tmp_path, bits):
    largest = (1 << bits) - 1
    pixels = read_image(tiff(tmp_path / "a.tif", np.array([[0, largest, largest - 1]]), bits, photometric=0))
    assert pixels[0, 0].tolist() == [255, 0, 0 if bits == 16 else 255 // largest]


@pytest.mark.parametrize("channels", [3, 4])
def test_photographs_of_16_bits_whose_channels_lie_apart_are_refused(tmp_path, channels):
    tifffile = pytest.importorskip("tifffile")
    pixels, path = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(np.uint16), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig="contig")
    assert np.array_equal(read_image(path).permute(1, 2, 0), (pixels >> 8)[..., :3])
    tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match=r"a.tif: .*its channels of 16 bits are stored apart"):
        read_image(path)
    apart = np.moveaxis((pixels >> 8).astype(np.uint8), 2, 0)
    tifffile.imwrite(path, apart, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(path), apart[:3])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("maximum", [1, 2, 10, 254, 255, 256, 4095, 65535])
def test_pgm(tmp_path, maximum, plain):
    numbers = _numbers(maximum)
    _check(pgm(tmp_path / "a.pgm", numbers, maximum, plain=plain), numbers)
    _check(pgm(tmp_path / "b.pnm", numbers, maximum, plain=plain), numbers)


@pytest.mark.parametrize("plain", [False, True])
def test_pbm(tmp_path, plain):
    _check(pbm(tmp_path / "a.pbm", _numbers(1), plain=plain), _numbers(1))


@pytest.mark.parametrize(
    "content",
    [b"P2 2 2 7 0 9 1 1", b"P2 2 2 7 0 a 1 1", b"P2 2 2 7 0 1", b"P5 2 2 3\n\0\1\2", b"P1 2 2 0 1 7 1", b"P4 9 1\n\1"],
)
def test_damaged_netpbm_files_are_named(tmp_path, content):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(UserError, match=r"a.pgm: cannot be read as a label image"):
        read_label(tmp_path / "a.pgm")


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("shade", ["black to white", "white to black", "the number", "all the same"])
def test_bmp(tmp_path, bits, shade):
    largest = (1 << bits) - 1
    shades = {
        "black to white": lambda n: n * 255 // largest,
        "white to black": lambda n: 255 - n * 255 // largest,
        "the number": lambda n: n,
        "all the same": lambda n: 9,
    }
    for top_down in (False, True):
        numbers = _numbers(largest)
        _check(bmp(tmp_path / "a.bmp", numbers, bits, shade=shades[shade], top_down=top_down), numbers)


_TIFFS = [(bits, kind) for bits in (1, 2, 4, 8, 12, 16, 32) for kind in ((0, 1, 3) if bits <= 8 else (0, 1))]


@pytest.mark.parametrize(("bits", "photometric"), _TIFFS)
def test_tiff(tmp_path, bits, photometric):
    numbers = _numbers((1 << bits) - 1)
    path = tiff(tmp_path / "a.tif", numbers, bits, photometric=photometric)
    if bits in (12, 32) and photometric == 0:
        with pytest.raises(UserError, match=r"a.tif: cannot be read as a label image"):
            read_label(path)
    else:
        _check(path, numbers)


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (16, 32767), (32, 65535)])
def test_signed_numbers(tmp_path, bits, largest):
    numbers = np.array([[0, 1, largest]])
    _check(tiff(tmp_path / "a.tif", numbers, bits, sample_format=2), numbers)
    with pytest.raises(UserError, match=r"a\.tif holds labels from -1 to 1: they must be within 0 and 65535"):
        read_label(tiff(tmp_path / "a.tif", np.array([[0, 1, (1 << bits) - 1]]), bits, sample_format=2))


def test_numbers_beyond_16_bits_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.tif holds labels from 3 to 70000: they must be within 0 and 65535"):
        read_label(tiff(tmp_path / "a.tif", np.array([[3, 70000]]), 32))


@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_are_turned_as_their_images_are(tmp_path, orientation, bits):
    numbers = _numbers((1 << bits) - 1)
    path = tiff(tmp_path / "a.tif", numbers, bits, orientation=orientation)
    steps: dict[int, tuple[int, ...]] = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    turned = numbers.T if orientation > 4 else numbers
    _check(path, np.flip(turned, steps.get(orientation, ())))
    assert np.array_equal(read_label(path, exif=False), numbers)
    if bits == 8:
        assert np.array_equal(read_image(path)[0], read_label(path))
        assert np.array_equal(read_image(path, exif=False)[0], numbers)


@pytest.mark.parametrize("kind", ["jpg", "webp", "ico", "tga"])
def test_formats_that_change_numbers_are_refused(tmp_path, kind):
    path = tmp_path / "a.png"  # whatever the ending says
    Image.fromarray(_numbers(3).astype(np.uint8)).save(path, format={"jpg": "JPEG"}.get(kind, kind.upper()))
    with pytest.raises(UserError, match=r"a.png is stored as \w+, which does not keep the numbers"):
        read_label(path)
    with pytest.raises(UserError, match=r"a.png is stored as"):
        read_color_ids(path)


def test_lossy_tiffs_and_several_channels_are_refused(tmp_path):
    grey = Image.fromarray(_numbers(200, (16, 16)).astype(np.uint8))
    grey.save(tmp_path / "a.tif", compression="jpeg")
    Image.merge("LA", (grey, grey)).save(tmp_path / "b.png")
    for name, sentence in (("a.tif", "a.tif is stored as JPEG"), ("b.png", "b.png has the mode LA")):
        with pytest.raises(UserError, match=sentence):
            read_label(tmp_path / name)


def test_colours_that_lose_bits_are_no_ids(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (2, 9))  # three pixels of three channels
    path = png(tmp_path / "a.png", samples, 16, color=2)
    path.write_bytes(_with_width(path.read_bytes(), 3))
    with pytest.raises(UserError, match=r"a.png has 16 bits per channel"):
        read_color_ids(path)
    (tmp_path / "b.ppm").write_bytes(b"P6 1 1 7\n\1\2\3")
    with pytest.raises(UserError, match=r"b.ppm has the maximum 7"):
        read_color_ids(tmp_path / "b.ppm")


def _with_width(content, width):
    """Return a PNG whose header names another width."""
    header = struct.pack(">I", width) + content[20:29]
    return content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


def test_gif_holds_indices(tmp_path):
    image = Image.fromarray(_numbers(3).astype(np.uint8))
    image.save(tmp_path / "a.gif")
    _check(tmp_path / "a.gif", _numbers(3))
