"""Real videos, written and read by PyAV: frames, rotation, damage, and the films that `predict` joins."""

from __future__ import annotations

import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image

from maskformer_ext.errors import UserError
from maskformer_ext.media.videos import frame_rate, is_video, read_frames, write_film
from maskformer_ext.prediction.input_images import read_images
from maskformer_ext.prediction.options import Reading

# Quarter turns clockwise, and the file's matrix (a, b, c, d) that means them. It maps (x, y) to (a x + c y, b x + d y).
TURNS = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.MOV", "mpeg4"),
        ("a.mkv", "ffv1"),
        ("a.avi", "mjpeg"),
        ("a.webm", "libvpx-vp9"),
        ("a.mpg", "mpeg2video"),
    ],
)
def test_every_frame_is_read_in_its_order(tmp_path: Path, name: str, codec: str) -> None:
    path = write_clip(tmp_path / name, codec)
    assert is_video(path)
    frames = list(read_frames(path))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 8
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(frame[40, 50], [20 * number] * 3, atol=6)
        np.testing.assert_allclose(frame[10, 10], [255, 0, 0], atol=12)
    assert frame_rate(path) == 25
    assert [picture.name for picture in read_images([(path, "a")], lambda _: False)][-1] == "a/000007"


@pytest.mark.parametrize("ending", ["mp4", "gif", "avif"])
def test_every_third_frame_keeps_its_number(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "mp4":
        write_clip(path)
    else:
        frames = [Image.new("RGB", (64, 48), (20 * n,) * 3) for n in range(8)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    pictures = list(read_images([(path, "a")], lambda _: False, Reading(stride=3)))
    assert [picture.name for picture in pictures] == ["a/000000", "a/000003", "a/000006"]
    for picture, number in zip(pictures, (0, 3, 6), strict=True):
        assert picture.rgb is not None
        np.testing.assert_allclose(picture.rgb[40, 50], [20 * number] * 3, atol=6)
        assert picture.siblings == 3
    few = read_images([(path, "a")], lambda _: False, Reading(stride=3, max_frames=2))
    assert [picture.siblings for picture in few] == [2, 2]


@pytest.mark.parametrize("turns", TURNS)
def test_frames_are_upright(tmp_path: Path, turns: int) -> None:
    path = write_clip(tmp_path / "a.mp4")
    whole = path.read_bytes()
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    start = whole.index(matrix, whole.index(b"tkhd"))  # the matrix of the track, which telephones write
    a, b, c, d = (value << 16 for value in TURNS[turns])
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(whole[:start] + turned + whole[start + len(turned) :])
    frame = next(read_frames(path))
    assert frame.shape == ((48, 64, 3) if turns % 2 == 0 else (64, 48, 3))
    height, width = frame.shape[:2]
    corners = {0: (0, 0), 1: (0, width - 1), 2: (height - 1, width - 1), 3: (height - 1, 0)}  # clockwise
    reddest = max(corners, key=lambda turn: int(frame[corners[turn]][0]) - int(frame[corners[turn]][1]))
    assert reddest == turns


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_video_that_was_cut_off_is_named_after_its_frames(tmp_path: Path, codec: str) -> None:
    path = write_clip(tmp_path / "cut.mp4", codec, frames=30)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    pictures = list(read_images([(path, "cut")], lambda _: False))
    assert 1 < len(pictures) < 30 and all(picture.rgb is not None for picture in pictures[:-1])
    assert pictures[-1].rgb is None
    assert pictures[-1].error is not None and pictures[-1].error.startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4: cannot be read as a video \("):
        next(read_frames(tmp_path / "a.mp4"))


def test_a_file_of_sound_holds_no_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"sound\.mp4: holds no video"):
        next(read_frames(tmp_path / "sound.mp4"))


def test_a_video_without_a_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"reading videos needs PyAV: pip install 'maskformer-ext\[video\]'"):
        next(read_frames(tmp_path / "a.mp4"))


def test_a_film_shows_the_pictures_it_was_joined_from(tmp_path: Path) -> None:
    pytest.importorskip("av")
    pictures = []
    for number in range(6):
        size = (61, 45) if number != 4 else (122, 90)  # odd sides, and one picture of another size
        pictures.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (40 * number, 255 - 40 * number, 60)).save(pictures[-1])
    write_film(pictures, tmp_path / "film.mp4", Fraction(30000, 1001))
    frames = list(read_frames(tmp_path / "film.mp4"))
    assert [frame.shape for frame in frames] == [(46, 62, 3)] * 6
    for number, frame in enumerate(frames):
        for y, x in ((20, 30), (45, 61)):
            np.testing.assert_allclose(frame[y, x], [40 * number, 255 - 40 * number, 60], atol=10)
    assert frame_rate(tmp_path / "film.mp4") == Fraction(30000, 1001)
    assert not list(tmp_path.glob(".*"))


def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"film\.mp4: the film cannot be written"):
        write_film([tmp_path / "0.png"], tmp_path / "film.mp4", Fraction(25))
    assert {path.name for path in tmp_path.iterdir()} == {"0.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_that_are_no_utf8_are_read_and_written(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    odd = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    clip.rename(odd)
    assert len(list(read_frames(odd))) == 8 and frame_rate(odd) == 25
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    film = tmp_path / os.fsdecode(b"\xff.mp4")
    write_film([tmp_path / "0.png"] * 3, film, Fraction(25))
    assert len(list(read_frames(film))) == 3


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1)])
def test_films_of_thin_pictures_are_written(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("av")
    Image.new("RGB", size).save(tmp_path / "0.png")
    write_film([tmp_path / "0.png"] * 2, tmp_path / "film.mp4", Fraction(25))
    assert len(list(read_frames(tmp_path / "film.mp4"))) == 2
