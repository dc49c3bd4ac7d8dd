"""Pictures stay small whatever the image: sizes, strips, and what is drawn and written on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.inference import SemanticResult
from maskformer_ext.media import images
from maskformer_ext.pictures import sizes as picture_size
from maskformer_ext.pictures.segments import add_legend, draw_segments
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_image, resize_map, shown_size
from maskformer_ext.pictures.text import load_font, shortened, text_size
from maskformer_ext.prediction.result_files import write_prediction

INFO = DatasetInfo("two", ("left side", "right side"), ((255, 0, 0), (0, 0, 255)))


@pytest.mark.parametrize("height", [1, 2, 30, 480, 3000, 13_000, 70_000_000])
@pytest.mark.parametrize("width", [1, 2, 40, 640, 4000, 13_000])
def test_a_shown_picture_is_small_whatever_the_image(height: int, width: int) -> None:
    size = shown_size(height, width, short_side=512, long_side=LONG_SIDE)
    assert 1 <= min(size) and max(size) <= LONG_SIDE
    enlarged = shown_size(height, width, short_side=512)
    assert max(enlarged) <= max(LONG_SIDE, height, width)
    assert enlarged[0] % height == enlarged[1] % width == 0


def test_small_images_are_enlarged_by_whole_factors() -> None:
    assert shown_size(30, 40, short_side=512, long_side=2048) == (510, 680)
    assert shown_size(480, 640, short_side=512, long_side=2048) == (480, 640)
    assert shown_size(9000, 12000, short_side=512, long_side=2048) == (1536, 2048)
    assert shown_size(9000, 12000, short_side=512) == (9000, 12000)


@pytest.mark.parametrize("size", [(300, 500), (301, 499), (2, 1000), (1000, 1)])
def test_an_image_is_shrunk_in_strips_as_it_would_be_whole(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    target = shown_size(*size, long_side=64)
    whole = resize_image(image, target)
    assert whole.shape == (*target, 3)
    monkeypatch.setattr(picture_size, "_STRIP_PIXELS", 3000)
    np.testing.assert_array_equal(resize_image(image, target), whole)
    assert abs(float(whole.mean()) - float(image.mean())) < 8


def test_a_map_keeps_its_values() -> None:
    values = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(resize_map(values, (6, 8)), values.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resize_map(values, (1, 2)), [[5, 7]])


def test_drawing_in_bands_is_drawing_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (90, 70, 3)).astype(np.uint8)
    owners = random.integers(-1, 2, (9, 7)).repeat(10, 0).repeat(10, 1)
    # 20 times: outlines that are thicker than a band
    whole, bands = (None, None)
    for pixels in (1 << 30, 700):
        monkeypatch.setattr("maskformer_ext.pictures.segments._BAND_PIXELS", pixels)
        drawn = np.asarray(draw_segments(image, owners, [0, 1], INFO, short_side=1400, names=False))
        whole, bands = (drawn, bands) if pixels > 700 else (whole, drawn)
    assert whole is not None and bands is not None
    np.testing.assert_array_equal(whole, bands)


@pytest.mark.parametrize(("height", "width"), [(2, 3000), (3000, 2), (1, 1), (40, 30), (1500, 2500)])
def test_overlays_are_bounded_and_ids_are_not(tmp_path: Path, height: int, width: int) -> None:
    classes = torch.zeros(height, width, dtype=torch.long)
    classes[:, width // 2 :] = 1
    ground = np.full((height, width, 3), 99, np.uint8)
    options = {"source": "x.png", "info": INFO}
    write_prediction(SemanticResult(classes), ground, tmp_path, "x", **options)  # type: ignore[arg-type]
    with Image.open(tmp_path / "overlays" / "x.png") as overlay:
        assert overlay.width <= LONG_SIDE and overlay.height <= LONG_SIDE + 200  # with the legend
        assert overlay.width >= 40  # that of a thin picture too
    ids = np.asarray(Image.open(tmp_path / "ids" / "x.png"))
    np.testing.assert_array_equal(ids, classes.numpy())
    described = json.loads((tmp_path / "json" / "x.json").read_text())["segments"]
    assert sum(segment["area"] for segment in described) == height * width
    write_prediction(SemanticResult(classes), ground, tmp_path, "x", overlay_size=0, **options)  # type: ignore[arg-type]
    with Image.open(tmp_path / "overlays" / "x.png") as overlay:
        assert overlay.width >= width and overlay.height >= height


def test_names_grow_with_the_picture() -> None:
    sizes = [text_size(height, height * 4 // 3, 0.038, 11, 28) for height in (100, 480, 1536, 9000)]
    assert sizes[0] == 11 and sizes[2] == 28 and sizes == sorted(sizes)
    assert sizes[3] / 9000 > 0.8 * sizes[2] / 1536  # as large where the picture is seen whole
    image, owners = np.zeros((400, 600, 3), np.uint8), np.zeros((400, 600), np.int64)
    plain, named = (np.asarray(draw_segments(image, owners, [0], INFO, names=names)) for names in (False, True))
    rows, columns = np.nonzero((plain != named).any(2))
    assert 8 <= np.ptp(rows) <= 30 and np.ptp(columns) > 40
    assert abs(rows.mean() - 200) < 10


def test_guesses_that_own_no_pixel_keep_no_name_off_the_picture() -> None:
    image, owners = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), np.int64)
    one, many = (np.asarray(draw_segments(image, owners, [0] * count, INFO)) for count in (1, 100))
    np.testing.assert_array_equal(one, many)


def test_a_legend_is_bounded() -> None:
    count = 1000
    many = DatasetInfo("many", tuple(f"class {i}" for i in range(count)), ((1, 2, 3),) * count)
    picture = add_legend(Image.new("RGB", (3, 50)), range(count), many)
    assert picture.width < 400 and picture.height < 4000
    long = DatasetInfo("long", ("x" * 100_000, "a\nb\x1b[31m"), ((1, 2, 3),) * 2)
    picture = add_legend(Image.new("RGB", (300, 50)), [0, 1], long)
    assert picture.width == 300 and picture.height < 120


def test_a_text_is_cut_to_its_room() -> None:
    font = load_font(12)
    assert shortened("road", font, 100) == "road"
    cut = shortened("a very long name of a class", font, 60)
    assert cut.endswith("\u2026") and font.getlength(cut) <= 60 < font.getlength(cut[:-1] + "xx\u2026")
    assert shortened("\x1b[31mred\nline", font, 1000) == "\\x1b[31mred line"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "CMYK"])
def test_an_image_is_read_in_strips_as_it_would_be_whole(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (70, 30, 3)).astype(np.uint8)
    image = Image.fromarray(values).convert(mode)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 200)
    pixels = images.pil_to_rgb(image)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("size", [(70, 30), (30, 200), (1, 90)])
def test_a_large_image_is_resized_in_strips_as_it_would_be_whole(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *size)).astype(np.uint8))
    whole = images.resize_shortest_edge(pixels, 20, 64).int()
    monkeypatch.setattr(images, "_STRIP_PIXELS", 200)
    monkeypatch.setattr(images, "_WHOLE_PIXELS", 0)
    assert int((images.resize_shortest_edge(pixels, 20, 64).int() - whole).abs().max()) <= 1  # of Pillow's rounding


def test_the_image_may_be_a_tensor_or_an_array(tmp_path) -> None:
    pixels = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    result = SemanticResult(torch.zeros(30, 40, dtype=torch.long))
    info = DatasetInfo("two", ("a", "b"), ((255, 0, 0), (0, 0, 255)))
    for name, image in (("tensor", pixels), ("array", pixels.permute(1, 2, 0).numpy())):
        write_prediction(result, image, tmp_path, name, source="x", info=info)
    tensor, array = ((tmp_path / "overlays" / f"{name}.png").read_bytes() for name in ("tensor", "array"))
    assert tensor == array
