"""Programs of `torch.export`: plain operators, any size and batch, every kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_config

from maskformer_ext import build_model
from maskformer_ext.config import Config, InferenceConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference.programs import tracing
from maskformer_ext.inference.programs.metadata import ProgramMetadata
from maskformer_ext.inference.programs.runtimes import open_program
from maskformer_ext.inference.programs.tracing import ProgramNetwork, trace, write_program
from maskformer_ext.modeling.layers import max_pool_to
from maskformer_ext.modeling.maskformer import MaskFormer
from maskformer_ext.modeling.swin import Swin

OTHER_SIZES = ((1, 64, 64), (3, 50, 141))  # batch, height and width; not those of the tracing


def _network(model: torch.nn.Module, *outputs: str, **settings: Any) -> ProgramNetwork:
    return ProgramNetwork(model, outputs, (0, 1), InferenceConfig(**settings)).eval()


def _assert_same_at_other_sizes(network: ProgramNetwork, program: torch.export.ExportedProgram) -> None:
    run = program.module()
    for batch, height, width in OTHER_SIZES:
        images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
        with torch.no_grad():
            expected, found = network(images), run(images)
        assert list(found) == list(expected)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("overrides", "output"),
    [
        ({"size_divisibility": 0}, "segments"),
        (
            {
                "masked_attention": True,
                "decoder_layers": 2,
                "mask_position": True,
                "query_input": True,
                "pixel_decoder": "transformer_encoder",
                "encoder_layers": 1,
            },
            "instances",
        ),
        ({"architecture": "per_pixel_baseline_plus"}, "scores"),
    ],
    ids=["segments", "all_options", "per_pixel"],
)
def test_a_program_takes_any_size_and_batch(overrides: dict, output: str) -> None:
    torch.manual_seed(0)
    network = _network(
        build_model(tiny_config(5, backbone="resnet10t"), **overrides), output, "queries", object_mask_threshold=0.2
    )
    program = trace(network)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets and not [target for target in targets if target.startswith("maskformer_ext")]
    _assert_same_at_other_sizes(network, program)


def test_openvino_adds_places_to_several_images(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "openvino"):
        pytest.importorskip(package, reason="ONNX and OpenVINO are optional dependencies")
    torch.manual_seed(0)
    network = _network(build_model(tiny_config(5, backbone="resnet10t", mask_position=True)), "queries")
    names = ("class_logits", "mask_logits")
    metadata = ProgramMetadata(
        "semantic", names, None, None, Config(), DatasetInfo("five", tuple("abcde"), ((9, 9, 9),) * 5), "0"
    )
    write_program(trace(network), tmp_path / "a.onnx", metadata)
    run = open_program(tmp_path / "a.onnx", names, names, "openvino", None)
    images = torch.randint(0, 256, (3, 3, 187, 250), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
    for name, found in zip(names, run(images), strict=True):
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-3)


def test_swin_pads_and_masks_its_windows_in_the_program() -> None:
    torch.manual_seed(0)
    backbone = Swin(16, (2, 1, 2, 1), (1, 2, 2, 4), window=4, drop_path=0.0)
    network = _network(MaskFormer(tiny_config(5), backbone), "queries")
    _assert_same_at_other_sizes(network, trace(network))


def test_a_plain_vision_transformer_resizes_its_positions_in_the_program() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_config(5, backbone="vit_tiny_patch16_224"))
    network = _network(model, "queries")
    _assert_same_at_other_sizes(network, trace(network))


def test_masked_attention_pools_in_a_program_as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(2, 3, 45, 26)
    for cells in ((6, 4), (45, 26), (23, 13), (7, 7)):
        expected = max_pool_to(maps, cells)
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            assert torch.equal(max_pool_to(maps, cells), expected)


def test_what_cannot_be_traced_for_any_size_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(tracing, "_trace", refuse)
    network = _network(build_model(tiny_config(5)), "queries")
    with pytest.raises(UserError, match="resnet18 cannot be exported for images of any size: give size=HxW"):
        trace(network)


def test_the_screen_stays_empty(tmp_path: Path, capfd: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="ONNX is an optional dependency")
    model = build_model(tiny_config(5, backbone="resnet10t"), architecture="per_pixel_baseline")
    program = trace(_network(model, "classes"), size=(32, 32), batch=1)
    info = DatasetInfo("five", tuple("abcde"), ((9, 9, 9),) * 5)
    metadata = ProgramMetadata("semantic", ("classes",), (32, 32), 1, Config(), info, "0")
    write_program(program, tmp_path / "a.onnx", metadata)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    out, err = capfd.readouterr()
    assert (out, err, [str(warning.message) for warning in recwarn]) == ("", "", [])
