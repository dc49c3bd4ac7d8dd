"""The commands `predict` and `evaluate` on a real checkpoint and real files, run as a user runs them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from paint import PaintModel, paint, scene
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model, evaluate, predict
from maskformer_ext.config import Config
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.evaluation.checkpoint import default_output
from maskformer_ext.inference import segment as segment_image
from maskformer_ext.media.videos import frame_rate, read_frames, write_film
from maskformer_ext.prediction import result_files as prediction_files
from maskformer_ext.prediction.input_files import list_files
from maskformer_ext.prediction.input_images import read_images

INFO = DatasetInfo("painted", ("ground", "box", "tile"), ((90, 90, 90), (250, 0, 0), (0, 0, 250)), thing_classes=(1, 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run: an untrained model for digits."""
    config = Config(name="tiny")
    config.data.num_val, config.data.task = 3, "panoptic"
    info = build_dataset(config.data, "val").info
    config.model = tiny_config(info.num_classes)
    config.inference.object_mask_threshold = 0.0
    config.inference.overlap_threshold = 0.0
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_checkpoint(folder, 0, model=build_model(config.model), config=config, info=info, training={})
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two images, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / "one.jpg")
    Image.fromarray(random.integers(0, 255, (50, 30), np.uint8)).save(folder / "more" / "two.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_predict_writes_overlay_ids_and_description(run: Path, photos: Path, tmp_path: Path, task: str) -> None:
    output = tmp_path / "out"
    arguments = [f"checkpoint={run}", f"input={photos}", f"output={output}", f"task={task}", "device=cpu"]
    assert predict.main(arguments) == 0
    names = ("one", "more/two")
    kinds = (("overlays", "png"), ("ids", "png"), ("json", "json"))
    written = {f"{kind}/{name}.{ending}" for name in names for kind, ending in kinds}
    assert _files(output) == {"settings.json", *written}
    for name, size in zip(names, ((40, 60), (50, 30)), strict=True):
        described = json.loads((output / "json" / f"{name}.json").read_text())
        ids = np.asarray(Image.open(output / "ids" / f"{name}.png"))
        assert ids.shape == size == (described["height"], described["width"])
        assert ids.dtype == (np.uint8 if task == "semantic" else np.uint16)
        listed = {segment["id"] for segment in described["segments"]}
        assert set(np.unique(ids).tolist()) - {0} <= listed
        if task != "instance":  # instances may overlap: there the map shows the better one
            for segment in described["segments"]:
                rows, columns = np.nonzero(ids == segment["id"])
                assert segment["area"] == len(rows)
                assert segment["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        with Image.open(output / "overlays" / f"{name}.png") as overlay:
            assert min(overlay.size) >= 400  # small images are enlarged


def test_predicted_files_hold_what_was_painted(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools.mask")
    from pycocotools import mask as coco_masks

    segments, labels = scene((40, 52), things=4)
    image = paint(segments, labels)
    for task in ("panoptic", "instance", "semantic"):
        result = segment_image(PaintModel(3), image, task=task, thing_classes=INFO.thing_classes)
        found = prediction_files.write_prediction(result, image, tmp_path, task, source="painted", task=task, info=INFO)
        expected = {"panoptic": "tile x2, box x2, ground 91%", "instance": "tile x2, box x2"}
        assert found == expected.get(task, found)
    ids = np.asarray(Image.open(tmp_path / "ids" / "panoptic.png"))
    described = json.loads((tmp_path / "json" / "panoptic.json").read_text())["segments"]
    assert len(described) == 5
    for segment in described:
        own = segments[ids == segment["id"]]
        assert len(np.unique(own)) == 1
        assert segment["category"] == INFO.classes[labels[own[0] - 1]]
        assert segment["isthing"] == (segment["category"] != "ground")
        assert segment["score"] > 0.99
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "ids" / "semantic.png")), np.array([0, *labels])[segments]
    )
    confident = [
        segment
        for segment in json.loads((tmp_path / "json" / "instance.json").read_text())["segments"]
        if segment["score"] > 0.5
    ]
    assert len(confident) == 4
    drawn = np.unique(np.asarray(Image.open(tmp_path / "ids" / "instance.png")))
    assert set(drawn.tolist()) - {0} == {segment["id"] for segment in confident}
    for segment in confident:
        mask = coco_masks.decode({**segment["rle"], "counts": segment["rle"]["counts"].encode()}).astype(bool)
        assert mask.sum() == segment["area"] == 49
        assert len(np.unique(segments[mask])) == 1


def test_a_damaged_image_is_named_and_the_others_are_done(run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    whole = (photos / "one.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    assert predict.main([f"checkpoint={run}", f"input={photos}", f"output={output}"]) == 1
    errors = capsys.readouterr().err
    assert "cut.jpg: cannot be read as an image" in errors
    assert "1 of 3 images failed" in errors
    assert {path.stem for path in (output / "json").rglob("*.json")} == {"one", "two"}


def test_predict_takes_a_file_and_a_glob(run: Path, photos: Path, tmp_path: Path) -> None:
    assert predict.main([f"checkpoint={run}", f"input={photos / 'one.jpg'}", f"output={tmp_path / 'a'}"]) == 0
    assert predict.main([f"checkpoint={run}", f"input={photos}/**/*.*", f"output={tmp_path / 'b'}"]) == 0
    assert {path.stem for path in (tmp_path / "a" / "json").iterdir()} == {"one"}
    assert {path.stem for path in (tmp_path / "b" / "json").iterdir()} == {"one", "two"}


def test_an_interrupted_run_is_completed(run: Path, photos: Path, tmp_path: Path, capsys) -> None:
    arguments = [f"checkpoint={run}", f"input={photos}", f"output={tmp_path / 'out'}", "resume=true", "batch=2"]
    assert predict.main(arguments) == 0
    written = tmp_path / "out" / "json" / "one.json"
    (tmp_path / "out" / "json" / "more" / "two.json").unlink()
    before = written.stat().st_mtime_ns
    capsys.readouterr()
    assert predict.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "more/two.png 30x50: " in printed and "one.jpg" not in printed
    assert "1 were done already" in printed
    assert written.stat().st_mtime_ns == before
    assert predict.main([*arguments, "inference.resize=logits"]) == 2
    assert "holds results of another inference" in capsys.readouterr().err


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five frames, the n-th of brightness 40 n."""
    frames = [Image.new("RGB", (24, 16), (40 * n,) * 3) for n in range(5)]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], lossless=True)
    return tmp_path / "clip.webp"


def test_an_animated_image_is_read_frame_by_frame(clip: Path) -> None:
    pictures = list(read_images([(clip, "clip")], lambda name: name == "clip/000003"))
    assert [picture.name for picture in pictures] == [f"clip/{n:06d}" for n in range(5)]
    assert [None if p.rgb is None else int(p.rgb[0, 0, 0]) for p in pictures] == [0, 40, 80, None, 160]
    assert pictures[1].source == f"{clip} frame 1"


def test_predict_takes_a_video(run: Path, clip: Path, tmp_path: Path) -> None:
    assert predict.main([f"checkpoint={run}", f"input={clip}", f"output={tmp_path / 'out'}", "batch=3"]) == 0
    overlays = sorted((tmp_path / "out" / "overlays" / "clip").iterdir())
    assert [path.name for path in overlays] == [f"{n:06d}.png" for n in range(5)]
    assert len({Image.open(path).size for path in overlays}) == 1


def test_a_video_becomes_a_film_of_its_overlays(run: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("av")
    films = tmp_path / "films"
    films.mkdir()
    frames = [tmp_path / f"{n}.png" for n in range(5)]
    for n, file in enumerate(frames):
        Image.new("RGB", (48, 32), (50 * n,) * 3).save(file)
    write_film(frames, films / "street.mp4", Fraction(10))
    output = tmp_path / "out"
    arguments = [f"checkpoint={run}", f"input={films}", f"output={output}", "batch=2", "task=semantic"]
    assert predict.main(arguments) == 0
    film = output / "overlays" / "street.mp4"
    assert str(film) in capsys.readouterr().out
    overlays = sorted((output / "overlays" / "street").iterdir())
    assert [path.name for path in overlays] == [f"{n:06d}.png" for n in range(5)]
    shown = list(read_frames(film))
    assert len(shown) == 5 and frame_rate(film) == 10
    for frame, overlay in zip(shown, overlays, strict=True):
        drawn = np.asarray(Image.open(overlay).convert("RGB")).astype(int)
        assert np.abs(frame[: drawn.shape[0], : drawn.shape[1]] - drawn).mean() < 8

    before = film.stat().st_mtime_ns
    assert predict.main([*arguments, "resume=true"]) == 0
    assert film.stat().st_mtime_ns == before  # nothing was new
    film.unlink()
    assert predict.main([*arguments, "resume=true", "film=false"]) == 0 and not film.exists()
    assert predict.main([*arguments, "resume=true"]) == 0 and film.is_file()


def test_images_of_the_same_name_do_not_overwrite_each_other(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "one.png")
    assert [name for _, name in list_files(str(photos)).files] == ["more/two", "one.jpg", "one.png"]
    Image.new("RGB", (8, 8)).save(photos / "more" / "one.jpg")
    names = [name for _, name in list_files(f"{photos}/**/one.jpg").files]
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=x", "output=y"], "checkpoint= is missing"),
        (["checkpoint={run}", "output=y"], "input= is missing"),
        (["checkpoint={run}", "input={photos}/none.jpg", "output=y"], "no such file or folder"),
        (["checkpoint={run}", "input={photos}/empty", "output=y"], "holds no image or video"),
        (["checkpoint={photos}", "input={photos}", "output=y"], "holds no complete checkpoint"),
        (["checkpoint={photos}/nowhere", "input={photos}", "output=y"], "does not exist"),
        (["checkpoint={run}", "input={photos}", "output=y", "task=depth"], "task must be one of"),
        (["checkpoint={run}", "input={photos}", "output=y", "taks=semantic"], "did you mean 'task'?"),
        (["checkpoint={run}", "input={photos}", "output=y", "inference.til=3"], "inference.tile"),
        (["checkpoint={run}", "input={photos}", "output=y", "model.num_queries=3"], "cannot be changed"),
        (["checkpoint={run}", "input={photos}", "output={photos}/notes.txt"], "cannot be made"),
        (["checkpoint={run}", "input={photos}", "output=y", "task=panoptic", "inference.tta=true"], "semantic only"),
        (["checkpoint={run}", "input={photos}", "output=y", "batch=0"], "batch must be a number of images"),
        (["checkpoint={run}", "input={photos}", "output=y", "resume=yes"], "resume must be true or false"),
        (["checkpoint={run}", "input={photos}", "output=y", "device=toaster"], "device=toaster is not available"),
        (["checkpoint"], "not of the form key=value"),
    ],
)
def test_predict_says_in_one_sentence_what_is_wrong(
    run, photos, tmp_path, monkeypatch, capsys, arguments, message
) -> None:
    monkeypatch.chdir(tmp_path)
    (photos / "empty").mkdir()
    assert predict.main([argument.format(run=run, photos=photos) for argument in arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ") and errors.count("\n") == 1


def test_evaluate_prints_and_writes_the_scores(run: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "scores.json"
    assert evaluate.main([f"checkpoint={run}", f"output={output}", "limit=2", "device=cpu"]) == 0
    scores = json.loads(output.read_text())
    assert scores["images"] == 2
    assert {"mIoU", "PQ", "AP", "per_class"} <= set(scores)
    printed = capsys.readouterr().out
    assert f"mIoU {scores['mIoU']:.4f}" in printed
    assert "pagoda" in printed
    assert default_output(run / "checkpoints" / "iter_0000000" / "model.safetensors") == run / "evaluation.json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint= is missing"),
        (["checkpoint={run}", "limit=none"], "limit must be a number"),
        (["checkpoint={run}", "split=test"], "split must be one of train, val, got 'test'"),
        (["checkpoint={run}", "inference.tta=true", "inference.tasks=[panoptic]"], "semantic only, got 'panoptic'"),
        (["checkpoint={run}", "submission=here"], "submission= and format= belong together"),
        (["checkpoint={run}", "submission=here", "format=kitti"], "format must be one of ade20k"),
        (["checkpoint={run}", "output=/nowhere/at/all.json"], "the folder /nowhere/at does not exist"),
        (["checkpoint={run}", "data.root=3", "inference.tasks=[depth]"], "inference.tasks must be one of"),
    ],
)
def test_evaluate_says_in_one_sentence_what_is_wrong(run: Path, capsys, arguments, message) -> None:
    assert evaluate.main([argument.format(run=run) for argument in (arguments or ["split=val"])]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_refuses_data_of_other_classes(run: Path, data_dir: Path, capsys) -> None:
    overrides = ["data.name=camvid", "data.task=semantic", f"data.root={data_dir / 'camvid'}"]
    assert evaluate.main([f"checkpoint={run}", *overrides]) == 2
    assert "the data set camvid has others" in capsys.readouterr().err


@pytest.mark.parametrize("command", [predict, evaluate])
def test_help_lists_the_keys(command, capsys) -> None:
    assert command.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {key}=" in printed for key in command._OWN)
