"""Exported files in the place of a checkpoint: the same results, without the code of the network."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config

from maskformer_ext import build_model, predict
from maskformer_ext.config import Config
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.engine.checkpoints import save_checkpoint
from maskformer_ext.errors import UserError
from maskformer_ext.inference import ExportedModel, segment
from maskformer_ext.inference.programs.export import ExportRequest, export_model
from maskformer_ext.inference.programs.loading import load_for_inference
from maskformer_ext.media.images import write_png

INFO = DatasetInfo("five", ("a", "b", "c", "d", "e ü"), ((9, 9, 9),) * 5, thing_classes=(0, 1, 2))


def _recipe() -> tuple[torch.nn.Module, Config]:
    torch.manual_seed(0)
    model = build_model(tiny_config(num_classes=5, backbone="resnet10t")).eval()
    with torch.no_grad():  # a confident network
        model.class_head.weight.mul_(30)
        model.mask_head.layers[-1].weight.mul_(4)
    config = Config(name="tiny")
    config.model, config.data.task, config.data.root = model.config, "panoptic", "/somewhere"
    config.data.train_images, config.data.val_images, config.data.classes_file = "/somewhere/a", "val", "~/classes.txt"
    config.inference.object_mask_threshold = config.inference.overlap_threshold = 0.3
    config.inference.min_size = 64
    return model, config


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, and what was exported of it."""
    folder = tmp_path_factory.mktemp("exported")
    model, config = _recipe()
    save_checkpoint(folder / "run", 0, model=model, config=config, info=INFO, training={})
    requests = {
        "any.pt2": ExportRequest(check=False),
        "fixed.pt2": ExportRequest(outputs=("queries",), size=(64, 96), batch=2, check=False),
    }
    if all(_has(package) for package in ("onnx", "onnxscript", "onnxruntime")):
        requests["any.onnx"] = ExportRequest(check=False)
    for name, request in requests.items():
        export_model(model, config, INFO, folder / name, request)
    return {path.name: path for path in folder.iterdir()}


def _has(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


def _runtimes() -> list:
    needs = {"onnxruntime": "any.onnx", "openvino": "any.onnx", "torch": "any.pt2"}
    return [
        pytest.param(runtime, file, marks=pytest.mark.skipif(not _has(runtime), reason=f"{runtime} is not installed"))
        for runtime, file in needs.items()
    ]


def _photo(height: int = 70, width: int = 90) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 9 + k) * np.cos(columns / (7 + k)) for k in range(3)]
    return (127 + 120 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize(("runtime", "file"), _runtimes())
def test_segment_gives_what_the_checkpoint_gives(files: dict[str, Path], runtime: str, file: str) -> None:
    model, config = _recipe()
    exported = ExportedModel(files[file], runtime=runtime)
    assert exported.dataset_info == INFO
    assert exported.recipe.inference == config.inference
    options: dict[str, Any] = {"thing_classes": INFO.thing_classes, "config": config.inference}
    images = [_photo(), _photo(70, 90)[::-1].copy(), _photo(33, 60)]
    for image, found in zip(images, segment(exported, images, batch_size=2, **options), strict=True):
        expected = segment(model, image, **options)
        assert float((found.class_map == expected.class_map).float().mean()) > 0.999
    panoptic = segment(exported, images[0], task="panoptic", **options)
    expected = segment(model, images[0], task="panoptic", **options)
    assert [info["category_id"] for info in panoptic.segments_info]
    assert [info["category_id"] for info in panoptic.segments_info] == [
        info["category_id"] for info in expected.segments_info
    ]
    tiled = segment(exported, _photo(100, 130), tile=48, **options)
    assert (
        float((tiled.class_map == segment(model, _photo(100, 130), tile=48, **options).class_map).float().mean())
        > 0.999
    )


def test_a_program_of_one_size_takes_every_image(files: dict[str, Path]) -> None:
    model, config = _recipe()
    exported = ExportedModel(files["fixed.pt2"])
    fitting = segment(exported, _photo(64, 96), config=config.inference)  # one image in a program for two
    assert float((fitting.class_map == segment(model, _photo(64, 96), min_size=64).class_map).float().mean()) > 0.999
    for shape in ((64, 64), (200, 90), (90, 300)):  # narrower, and too large for the program
        found = segment(exported, [_photo(*shape)] * 3, config=config.inference, batch_size=3)
        assert [result.class_map.shape for result in found] == [shape] * 3
        assert torch.equal(found[0].class_map, found[2].class_map)
    narrow = segment(exported, _photo(64, 64), config=config.inference).class_map
    assert float((narrow == segment(model, _photo(64, 64), min_size=64).class_map).float().mean()) > 0.95


def test_calling_a_program_gives_its_own_results(files: dict[str, Path]) -> None:
    file = files.get("any.onnx", files["any.pt2"])
    results = ExportedModel(file)(torch.zeros((2, 3, 40, 60), dtype=torch.uint8))
    assert list(results) == ["segment_map", "ids", "labels", "scores", "areas", "class_logits", "mask_logits"]
    assert results["segment_map"].shape == (2, 40, 60)


_RUN = """
import sys
from maskformer_ext.predict import main

status = main([f"checkpoint={sys.argv[1]}", f"input={sys.argv[2]}", f"output={sys.argv[3]}"])
networks = {"timm", "torchvision", "maskformer_ext.checkpoints.models"}
networks |= {name for name in sys.modules if name.startswith("maskformer_ext.modeling.")}
print("imported", sorted(networks & set(sys.modules) - {"maskformer_ext.modeling.weights"}))
sys.exit(status)
"""


def test_predict_writes_the_same_files_without_the_networks_code(files: dict[str, Path], tmp_path: Path) -> None:
    file = "any.onnx" if "any.onnx" in files else "any.pt2"
    write_png(Image.fromarray(_photo()), tmp_path / "photos" / "a.png")
    command = [sys.executable, "-c", _RUN, str(files[file]), str(tmp_path / "photos"), str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "imported []"
    arguments = [f"input={tmp_path / 'photos'}", f"output={tmp_path / 'expected'}"]
    assert predict.main([f"checkpoint={files['run']}", *arguments]) == 0
    found, expected = (json.loads((tmp_path / name / "json" / "a.json").read_text()) for name in ("found", "expected"))
    assert [one["category"] for one in found["segments"]] == [one["category"] for one in expected["segments"]]
    ids = [np.asarray(Image.open(tmp_path / name / "ids" / "a.png")) for name in ("found", "expected")]
    assert (ids[0] == ids[1]).mean() > 0.999
    assert (tmp_path / "found" / "overlays" / "a.png").is_file()


def test_a_file_says_all_of_itself_and_nothing_of_the_machine(files: dict[str, Path]) -> None:
    text = zipfile.ZipFile(files["any.pt2"]).read("archive/extra/maskformer_ext.json").decode()
    values = {key: json.loads(value) for key, value in json.loads(text).items()}
    assert values["maskformer_ext.names"] == ["a", "b", "c", "d", "e ü"]
    assert values["maskformer_ext.things"] == [1, 1, 1, 0, 0]
    assert values["maskformer_ext.thresholds"]["object_mask_threshold"] == 0.3
    assert values["maskformer_ext.resize"]["min_size"] == 64
    data = values["maskformer_ext.recipe"]["data"]
    assert data["root"] is None and data["classes_file"] is None
    assert data["train_images"] == "" and data["val_images"] == "val"
    for file in files.values():
        content = file.read_bytes() if file.is_file() else b""
        assert b"/somewhere" not in content and b"site-packages" not in content and b"tracing.py" not in content


def test_onnx_names_its_dimensions_and_holds_its_metadata(files: dict[str, Path]) -> None:
    if "any.onnx" not in files:
        pytest.skip("ONNX is an optional dependency")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(files["any.onnx"]), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes["segment_map"] == ["batch", "height", "width"] and shapes["ids"] == ["batch", 8]
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["maskformer_ext.task"]) == "panoptic"
    assert json.loads(properties["maskformer_ext.mean"]) == [123.675, 116.28, 103.53]


_FORGED: dict[str, dict[str, Callable[[bytes], bytes]]] = {
    "a flag": {"weights_config.json": lambda content: content.replace(b'pickle": false', b'pickle": true', 1)},
    "a name": {"weights_config.json": lambda content: content.replace(b'"weight_0"', b'"opaque_obj_0"', 1)},
    "padding": {"weights_config.json": lambda content: content + b" " * (1 << 26)},
    "weights of before": {"archive/data/weights/model.pt": lambda _: b"a pickle"},
    "inputs": {"archive/data/sample_inputs/other.pt": lambda _: b"a pickle"},
    "a format of before": {"serialized_example_inputs.pt": lambda _: b"a pickle"},
    "a library": {"archive/data/aotinductor/model/model.so": lambda _: b"machine code"},
}
"""What torch would unpickle or load as code: names in the archive, and what is written there."""


def _damage(files: dict[str, Path], kind: str, folder: Path) -> Path:
    if kind in _FORGED:
        path = folder / "forged.pt2"
        with zipfile.ZipFile(files["fixed.pt2"]) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename.endswith("weights_config.json"):
                    content = _FORGED[kind].get("weights_config.json", lambda content: content)(content)
                target.writestr(entry.filename, content)
            for name, make in _FORGED[kind].items():
                if name != "weights_config.json":
                    target.writestr(name, make(b""))
        return path
    name, _, ending = kind.rpartition(".")
    path = folder / kind
    if name == "text":
        path.write_text("hello, I am no program")
    elif name == "cut":
        whole = files.get(f"any.{ending}", files["any.pt2"])
        path.write_bytes(whole.read_bytes()[:100_000])
    elif name == "foreign" and ending == "pt2":
        program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
        program.example_inputs = None  # a pickle
        torch.export.save(program, path)
    elif name == "foreign":
        onnx = pytest.importorskip("onnx")
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text.onnx", "is damaged or no ONNX model"),
        ("text.pt2", "is damaged or no program of torch.export"),
        ("cut.onnx", "is damaged or no ONNX model: it ends early"),
        ("cut.pt2", "is damaged or no program of torch.export"),
        ("foreign.onnx", "was not written by maskformer-ext export"),
        ("foreign.pt2", "was not written by maskformer-ext export"),
        ("missing.onnx", "No such file"),
        ("a flag", "it holds pickles, which may run any code"),
        ("a name", "it holds pickles, which may run any code"),
        ("padding", "which are too many for a table"),
        ("weights of before", "it holds a pickle (data/weights/model.pt), which may run any code"),
        ("inputs", "it holds example inputs as a pickle, which may run any code"),
        ("a format of before", "it is of a format that torch wrote before 2.9, with pickles, which may run any code"),
        ("a library", "it holds compiled code (data/aotinductor/model/model.so), which may run any code"),
    ],
)
def test_strange_and_damaged_files_are_one_sentence(
    files: dict[str, Path], tmp_path: Path, kind: str, message: str
) -> None:
    if kind == "cut.onnx" and "any.onnx" not in files:
        pytest.skip("ONNX is an optional dependency")
    path = _damage(files, kind, tmp_path)
    with pytest.raises(UserError) as caught:
        load_for_inference(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "runtime", "message"),
    [
        ("any.pt2", "tensorrt", "runtime must be one of onnxruntime, openvino, torch"),
        ("any.pt2", "openvino", "runtime=openvino does not run .pt2 files"),
        ("run", "openvino", "runtime=openvino is for exported programs"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    files: dict[str, Path], file: str, runtime: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_for_inference(files[file], runtime=runtime)


def test_a_program_without_queries_is_not_for_segment(files: dict[str, Path]) -> None:
    exported = ExportedModel(files["fixed.pt2"])
    exported.metadata = dataclasses.replace(exported.metadata, outputs=("classes",))
    with pytest.raises(UserError, match="gives classes only: segment and predict need the network's own output too"):
        exported.open()


def test_a_missing_runtime_names_the_extra(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    if "any.onnx" not in files:
        pytest.skip("ONNX is an optional dependency")
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'maskformer-ext\[onnx\]'"):
        ExportedModel(files["any.onnx"])
    with pytest.raises(UserError, match=r"pip install 'maskformer-ext\[openvino\]'"):
        ExportedModel(files["any.onnx"], runtime="openvino")
