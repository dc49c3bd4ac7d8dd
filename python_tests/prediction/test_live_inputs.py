"""`predict` on what is no file of a folder: addresses, standard input, lists, cameras; and what it prints of them."""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from tiny_run import save_tiny_run
from web import serve

from maskformer_ext import predict
from maskformer_ext.media import addresses, streams
from maskformer_ext.media.videos import frame_rate, read_frames
from maskformer_ext.prediction import run as prediction_run
from maskformer_ext.prediction.input_files import list_files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the results; nothing may stay in the temporary one."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return tmp_path / "out"


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> str:
    """A camera that never ends."""
    pytest.importorskip("av")
    monkeypatch.setattr(addresses, "_is_device", lambda path: True)
    monkeypatch.setattr(addresses.os, "access", lambda path, mode: True)
    monkeypatch.setattr(streams, "camera_input", lambda device: ("testsrc=size=64x48:rate=50,realtime", "lavfi"))
    return "webcam:0"


def _png(size: tuple[int, int] = (40, 30), grey: int = 99) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def _done(output: Path) -> set[str]:
    folder = output / "json"
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json")}


def _predict(run: Path, source: object, output: Path, *more: str) -> int:
    return predict.main([f"checkpoint={run}", f"input={source}", f"output={output}", "device=cpu", *more])


def test_a_line_says_name_size_classes_and_time(run, tmp_path, output, capsys) -> None:
    (tmp_path / "photo.png").write_bytes(_png())
    assert _predict(run, tmp_path / "photo.png", output, "task=semantic") == 0
    line, last, pictures, folder = capsys.readouterr().out.splitlines()
    assert pictures == f"the pictures are in {output / 'overlays'}"
    assert re.fullmatch(r"1/1 photo\.png 40x30: (\w+ \d+%(, )?)+ \(\d+ ms\)", line)
    assert re.fullmatch(r"1 image in [\d.]+ s, [\d.]+ images/s, median \d+ ms", last)
    assert folder == str(output)


def test_quiet_prints_the_folder_and_errors_only(run, tmp_path, output, capsys) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(_png())
    (tmp_path / "photos" / "b.png").write_bytes(b"no image")
    (tmp_path / "photos" / "notes.txt").touch()
    assert _predict(run, tmp_path / "photos", output, "quiet=true") == 1
    said = capsys.readouterr()
    assert said.out == f"{output}\n" and len(said.err.splitlines()) == 2


def test_addresses_of_a_list_are_fetched_and_failures_named(run, tmp_path, output, capsys) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=5)
    answers = {"/a/photo.png": _png(), "/b/photo.png": _png((50, 20)), "/film": clip.read_bytes(), "/bad.png": b"bad"}
    with serve({**answers}) as url:
        lines = [*(f"{url.replace('//', '//me:secret@')}{path}" for path in answers), f"{url}/none.jpg", str(clip)]
        (tmp_path / "list.txt").write_text("\n".join([*lines, "", lines[0]]))
        assert _predict(run, f"@{tmp_path / 'list.txt'}", output, "stride=2", "batch=2") == 1
        host = url.removeprefix("http://").replace(":", "_").rpartition("_")[0]
        said = capsys.readouterr()
        assert said.err.splitlines() == [
            f"error: {url}/bad.png: cannot be read as an image "
            "(it is damaged, or of a format or a depth that Pillow does not read)",
            f"error: {url}/none.jpg: the server answers 404 Not Found",
            "error: 2 of 10 images failed",
        ]
        frames = {f"{name}/00000{number}" for name in ("clip", "film") for number in (0, 2, 4)}
        assert _done(output) == {f"{host}/a/photo", f"{host}/b/photo", *frames}
        assert "passed over: 1 named twice" in said.out and "secret" not in said.out
        described = json.loads((output / "json" / host / "a" / "photo.json").read_text())
        assert described["image"] == f"{url}/a/photo.png"
        assert frame_rate(output / "overlays" / "clip.mp4") == 12.5  # as long as the video
    assert not list(Path(tempfile.gettempdir()).iterdir())
    arguments = ("stride=2", "resume=true")
    assert (
        _predict(run, f"@{tmp_path / 'list.txt'}", output, *arguments) == 1
    )  # no server, and nothing is fetched again
    assert "photo" not in capsys.readouterr().err


def test_a_list_on_standard_input_and_missing_files_in_it(run, tmp_path, output, capsys, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(_png())
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path}/a.png\n{tmp_path}/gone.png\n"))
    assert _predict(run, "@-", output) == 1
    assert f"error: {tmp_path}/gone.png: no such image file" in capsys.readouterr().err
    assert _done(output) == {"a"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"\n{tmp_path}/gone.png\n"))
    assert _predict(run, "@-", output) == 2
    assert "@- line 2: no such file" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("\n")
    assert _predict(run, tmp_path / "empty.txt", output) == 2
    assert "the list is empty" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_text("a.png\ns3://bucket/a.png\n")
    assert _predict(run, tmp_path / "bad.txt", output) == 2
    assert "bad.txt line 2: input=s3://bucket/a.png: addresses begin with" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "status"), [(_png(), 0), (b"", 1), (b"no image", 1), (b"<html>", 1)])
def test_standard_input_is_an_image(run, output, capsys, monkeypatch, content, status) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert _predict(run, "-", output) == status
    said = capsys.readouterr()
    assert _done(output) == ({"stdin"} if status == 0 else set())
    assert status == 0 or said.err.startswith("error: standard input: ")
    assert not list(Path(tempfile.gettempdir()).iterdir())


def test_a_camera_is_segmented_up_to_a_number_of_frames(run, output, capsys, camera) -> None:
    assert _predict(run, camera, output, "max_frames=4", "stride=2") == 0
    frames = sorted(_done(output))
    assert len(frames) == 4 and frames[0] == "webcam0/000000"
    assert all(int(name[-6:]) % 2 == 0 for name in frames)
    assert len(list(read_frames(output / "overlays" / "webcam0.mp4"))) == 4
    assert "1/1 webcam0 frame 0 64x48: " in capsys.readouterr().out
    assert _predict(run, camera, output, "resume=true") == 2
    assert "webcam:0 brings other images each time" in capsys.readouterr().err


def test_ctrl_c_ends_a_camera_with_all_results_whole(run, output, capsys, camera, monkeypatch) -> None:
    _interrupt_after(3, monkeypatch)
    assert _predict(run, camera, output, "task=semantic") == 0
    assert len(_done(output)) == 3
    assert len(list(read_frames(output / "overlays" / "webcam0.mp4"))) == 3
    said = capsys.readouterr()
    assert "3 images in " in said.out and said.err == ""
    assert not [path for path in output.rglob(".*")]


def test_ctrl_c_among_files_says_how_to_go_on(run, tmp_path, output, capsys, monkeypatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(_png())
    write_clip(photos / "b.mp4", frames=5)
    with monkeypatch.context() as patched:
        _interrupt_after(3, patched)
        assert _predict(run, photos, output) == 130
    said = capsys.readouterr()
    assert said.err == "error: interrupted: the same command with resume=true does the rest\n"
    assert _done(output) == {"a", "b/000000", "b/000001"} and not (output / "overlays" / "b.mp4").exists()
    assert _predict(run, photos, output, "resume=true") == 0
    assert len(_done(output)) == 6 and len(list(read_frames(output / "overlays" / "b.mp4"))) == 5
    assert "3 were done already" in capsys.readouterr().out


def _interrupt_after(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = prediction_run.write_prediction
    written: list[str] = []

    def interrupted(*arguments, **options):
        if len(written) == images:
            raise KeyboardInterrupt
        written.append(write(*arguments, **options))
        return written[-1]

    monkeypatch.setattr(prediction_run, "write_prediction", interrupted)


def test_videos_count_by_their_frames_in_the_bar(run, tmp_path, output) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(_png())
    write_clip(photos / "b.mp4", frames=5)
    (photos / "c.png").write_bytes(_png())
    steps: list[tuple[int, int | None]] = []
    options = prediction_run.PredictionOptions(quiet=True)
    work = prediction_run.start_run(str(run), output, options)
    work(list_files(str(photos)).files, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), *((n, 7) for n in range(2, 8))]
    assert work.counts.done == 7 and len(work.counts.times) == 7


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_photos_of_telephones_are_read_upright(run, tmp_path, output, kind) -> None:
    pixels = np.full((600, 800, 3), 40, np.uint8)
    pixels[:, 600:] = 220
    photo, tags = Image.fromarray(pixels), Image.Exif()
    tags[0x0112] = 6  # a quarter turn clockwise: what is at the right comes to the bottom
    if kind == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
        photo.info["exif"] = tags.tobytes()  # from which pillow-heif makes HEIC's own turn
        photo.save(tmp_path / "photo.heic", quality=95)
    else:
        photo.save(tmp_path / "photo.avif", quality=95, exif=tags)
    assert _predict(run, tmp_path / f"photo.{kind}", output) == 0
    assert Image.open(output / "ids" / "photo.png").size == (600, 800)
    overlay = np.asarray(Image.open(output / "overlays" / "photo.png").convert("L")).astype(int)
    assert overlay[650:750].mean() > overlay[50:500].mean() + 40
