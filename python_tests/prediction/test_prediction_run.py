"""`predict` where something fails: what it was is named, everything else is done, and the status says so."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import save_tiny_run

from maskformer_ext import evaluate, export, predict
from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.ops.support import library
from maskformer_ext.prediction import prepared_images
from maskformer_ext.prediction import run as prediction_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images of one size; the second one is the only dark one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, grey in enumerate((200, 10, 200, 200)):
        Image.new("RGB", (40, 30), (grey,) * 3).save(folder / f"{number}.png")
    return folder


def _done(output: Path) -> set[str]:
    return {path.stem for path in (output / "json").glob("*.json")}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "there is not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."), "there is not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory: you tried to allocate 9 bytes"),
            "give batch=1",
        ),
        (RuntimeError("an error of a kernel\nand its trace"), "an error of a kernel"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (RecursionError(), "nested too deeply"),
    ],
)
def test_an_image_that_cannot_be_segmented_is_named_and_the_others_are_done(
    run, photos, tmp_path, monkeypatch, capsys, batch, error, reason
) -> None:
    segment = prediction_run.segment

    def failing(model, images, **options):
        if any(int(image.float().mean()) < 50 for image in images):
            raise error
        return segment(model, images, **options)

    monkeypatch.setattr(prediction_run, "segment", failing)
    output = tmp_path / "out"
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}", f"batch={batch}"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and errors[1] == "error: 1 of 4 images failed"
    assert errors[0].startswith(f"error: {photos / '1.png'}: ") and reason in errors[0]
    assert _done(output) == {"0", "2", "3"}


def test_a_missing_library_ends_the_run_in_a_sentence(run, photos, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(library, "REFERENCE", False)
    monkeypatch.setattr(library, "CPU_ERROR", "_ops_cpu.so does not exist")
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}"]) == 2
    (told,) = capsys.readouterr().err.splitlines()  # not one for each image
    assert told.startswith("error: maskformer_ext: the native library") and "MASKFORMER_EXT_REFERENCE=1" in told


@pytest.mark.parametrize("kind", ["overlays", "ids", "json"])
def test_a_file_that_cannot_be_written_is_named_and_the_others_are_done(run, photos, tmp_path, capsys, kind) -> None:
    output = tmp_path / "out"
    (output / kind / ("1.json" if kind == "json" else "1.png")).mkdir(parents=True)  # a folder is in the way
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "1.png" in errors[0] and "could not be written" in errors[0]
    assert {path.stem for path in (output / "json").glob("*.json") if path.is_file()} == {"0", "2", "3"}
    assert not [path for path in output.rglob(".*")]


def test_a_full_disk_is_named_for_every_image(run, photos, tmp_path, monkeypatch, capsys) -> None:
    def full(self, path, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5 and all("No space left on device" in line for line in errors[:4])


def test_an_error_in_pictures_of_queries_loses_no_results(run, photos, tmp_path, monkeypatch, capsys) -> None:
    def failing(*arguments):
        raise MemoryError

    monkeypatch.setattr(prediction_run, "query_masks", failing)
    output = tmp_path / "out"
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}", "queries=true"]) == 1
    assert _done(output) == {"0", "1", "2", "3"}
    assert "0.png: there is not enough memory" in capsys.readouterr().err


def test_a_summary_or_film_that_cannot_be_written_is_named(run, photos, tmp_path, monkeypatch, capsys) -> None:
    output = tmp_path / "out"
    (output / "queries.png").mkdir(parents=True)
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}", "queries=true"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "queries.png could not be written" in captured.err
    assert str(output) in captured.out


def test_a_decoder_that_fails_in_any_way_is_named(run, photos, tmp_path, monkeypatch, capsys) -> None:
    load = Image.Image.load

    def failing(self, *arguments):
        if self.size == (41, 30):
            raise AttributeError("a decoder's own fault")
        return load(self, *arguments)

    Image.new("RGB", (41, 30)).save(photos / "1.bmp")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: failing(self))
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}"]) == 1
    assert "1.bmp: cannot be read as an image" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_that_are_no_utf8_go_through(run, tmp_path, capsys) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    name = os.fsdecode(b"caf\xe9 \x1b[31m")
    Image.new("RGB", (20, 20)).save(photos / f"{name}.png")
    frames = [Image.new("RGB", (20, 20), (90 * n,) * 3) for n in range(2)]
    frames[0].save(photos / f"{name}.gif", save_all=True, append_images=frames[1:])
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}", "queries=true"]) == 0
    printed = capsys.readouterr().out
    assert "caf\\xe9 \\x1b[31m.png" in printed and "\x1b" not in printed
    described = json.loads((output / "json" / f"{name}.png.json").read_bytes().decode())
    assert described["image"].endswith("caf\\xe9 \\x1b[31m.png")
    assert (output / "overlays" / f"{name}.gif" / "000001.png").is_file()


@pytest.mark.parametrize("options", [[], ["inference.tile=32"], ["inference.tta=true", "inference.tta_min_sizes=[]"]])
@pytest.mark.parametrize("size", [(1, 1), (1, 80), (80, 1), (3, 2)])
def test_tiny_images_are_segmented(tmp_path, run, size, options) -> None:
    single = save_tiny_run(tmp_path / "single", pixel_decoder_dim=32, mask_dim=32)  # one channel per group of the norms
    Image.new("RGB", size, (9, 200, 30)).save(tmp_path / "tiny.png")
    for checkpoint in (run, single):
        output = tmp_path / f"out {checkpoint.name}"
        arguments = [f"checkpoint={checkpoint}", f"input={tmp_path / 'tiny.png'}", f"output={output}", *options]
        assert predict.main(arguments) == 0
        assert Image.open(output / "ids" / "tiny.png").size == size


@pytest.mark.parametrize("size", [(60, 90), (700, 40)])
def test_an_image_is_not_kept_but_segmented_as_by_segment(run, tmp_path, monkeypatch, size) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    seen: list[tuple[int, ...]] = []
    segment = prediction_run.segment

    def watching(model, images, **options):
        seen.extend(tuple(image.shape) for image in images)
        return segment(model, images, **options)

    monkeypatch.setattr(prediction_run, "segment", watching)
    arguments = [f"checkpoint={run}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}", "task=semantic"]
    assert predict.main([*arguments, "inference.max_size=64", "device=cpu"]) == 0
    assert max(seen[0]) == 64 and len(seen) == 1
    model, config, _ = load_checkpoint(run)
    expected = segment(model, rgb, config=config.inference, max_size=64).class_map
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "ids" / "a.png")), expected)


def test_an_image_that_cannot_be_resized_is_named_and_the_others_are_done(
    run, photos, tmp_path, monkeypatch, capsys
) -> None:
    def failing(rgb, size):
        if int(rgb.mean()) < 50:
            raise MemoryError
        return rgb

    monkeypatch.setattr(prepared_images, "overlay_ground", failing)
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}", "batch=2"]) == 1
    assert f"error: {photos / '1.png'}: there is not enough memory" in capsys.readouterr().err
    assert _done(tmp_path / "out") == {"0", "2", "3"}


@pytest.mark.parametrize("overlay_size", [0, 30])
def test_drawing_on_what_pillow_made_gives_no_warning(run, tmp_path, overlay_size) -> None:
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "a.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        arguments = [f"checkpoint={run}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}", "queries=true"]
        assert predict.main([*arguments, f"overlay_size={overlay_size}", "inference.max_size=64"]) == 0
    assert not [one for one in said if "not writable" in str(one.message)]


def test_images_above_the_limit_are_read_when_the_user_says_so(run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("maskformer_ext.media.decoding._DEFAULT_LIMIT", 1000)
    monkeypatch.setenv("MASKFORMER_EXT_MAX_PIXELS", "1000")
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    arguments = [f"checkpoint={run}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}"]
    assert predict.main(arguments) == 1
    assert "give max_pixels=2000" in capsys.readouterr().err
    assert predict.main([*arguments, "max_pixels=2000"]) == 0
    assert predict.main([*arguments, "max_pixels=many"]) == 2


def test_overlays_have_the_size_that_is_asked_for(run, tmp_path) -> None:
    Image.new("RGB", (300, 600)).save(tmp_path / "a.png")
    arguments = [f"checkpoint={run}", f"input={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}", "task=semantic"]
    assert predict.main([*arguments, "overlay_size=100"]) == 0
    with Image.open(tmp_path / "out" / "overlays" / "a.png") as overlay:
        assert 100 <= overlay.height < 300
    assert Image.open(tmp_path / "out" / "ids" / "a.png").size == (300, 600)
    assert predict.main([*arguments, "overlay_size=-1"]) == 2


def test_weights_that_are_not_finite_are_said(tmp_path, photos, capsys) -> None:
    run = save_tiny_run(tmp_path / "nan", broken="class_head.weight")
    commands: tuple[tuple[ModuleType, list[str]], ...] = (
        (predict, [f"input={photos}", f"output={tmp_path / 'out'}"]),
        (evaluate, []),
        (export, [f"output={tmp_path / 'a.pt2'}", "size=64,64"]),
    )
    for command, arguments in commands:
        assert command.main([f"checkpoint={run}", *arguments]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and "of class_head.weight are infinite or NaN" in errors


def test_per_pixel_models_have_no_queries_to_draw(tmp_path, photos, capsys) -> None:
    run = save_tiny_run(tmp_path / "pixels", architecture="per_pixel_baseline")
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}", "queries=true"]) == 2
    assert "has no queries" in capsys.readouterr().err
