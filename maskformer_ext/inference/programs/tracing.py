"""Trace network and reduction into one program of plain operators, and write it with its metadata."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.errors import UserError, why
from maskformer_ext.files import writing
from maskformer_ext.inference.programs import plain_reduction
from maskformer_ext.inference.programs.metadata import ProgramMetadata
from maskformer_ext.inference.programs.pt2_metadata import METADATA_FILE
from maskformer_ext.inference.programs.quiet import quiet
from maskformer_ext.modeling.layers import round_up
from maskformer_ext.ops.support.strided_logits import enlarge

RESULTS = {
    "classes": ("classes",),
    "scores": ("scores",),
    "segments": ("segment_map", "ids", "labels", "scores", "areas"),
    "instances": ("masks", "scores", "labels", "boxes"),
    "queries": ("class_logits", "mask_logits"),
}
"""What each value of ``outputs=`` adds to the results of a program."""

_TRACED_SIZE = (1000, 1300)  # of the images that a program for any size is traced with; nothing is computed
_LARGEST = 1 << 15  # pixels along a side
_LEAST = (1, 33)  # smallest side to try: plain vision transformers cannot tell maps of one cell apart


class ProgramNetwork(nn.Module):
    """A network with everything around it that `segment` does, in plain operators. It is meant for export only.

    Args:
        model: a ``MaskFormer`` or a per-pixel baseline.
        outputs: keys of ``RESULTS``.
        things: ids of the thing classes; () where all are.
        settings: thresholds.
    """

    mean: Tensor
    std: Tensor
    things: Tensor

    def __init__(
        self, model: nn.Module, outputs: Sequence[str], things: Sequence[int], settings: InferenceConfig
    ) -> None:
        super().__init__()
        config: Any = model.config
        self.model, self.outputs, self.settings = model, tuple(outputs), settings
        self.multiple = max(1, config.size_divisibility)
        self.register_buffer("mean", torch.tensor(config.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.pixel_std).view(3, 1, 1), persistent=False)
        listed = [not things or label in things for label in range(config.num_classes)]
        self.register_buffer("things", torch.tensor(listed), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Segment (B, 3, H, W) uint8 RGB images; the results are those that ``RESULTS`` lists for the outputs."""
        size = (images.shape[-2], images.shape[-1])
        padded = (round_up(size[0], self.multiple), round_up(size[1], self.multiple))
        normalized = (images.float() - self.mean) / self.std
        network_input = F.pad(normalized, (0, padded[1] - size[1], 0, padded[0] - size[0]))
        output = self.model(network_input.to(next(self.model.parameters()).dtype))
        results: dict[str, Tensor] = {}
        if output.class_logits is None:
            logits = output.mask_logits().float()
            if self._needs_pixels():
                scores = enlarge(logits, padded[0])[..., : size[0], : size[1]]
                results |= {"classes": scores.argmax(1), "scores": scores}
            return self._chosen(results | {"mask_logits": logits})
        class_logits, mask_logits = output.class_logits[-1].float(), output.mask_logits().float()
        probability, masks = plain_reduction.count_queries(class_logits, mask_logits)
        if self._needs_pixels():
            results |= self._reduce(probability, plain_reduction.resize_masks(masks, padded, size))
        if "instances" in self.outputs:
            results |= plain_reduction.instances(
                probability,
                masks,
                self.things,
                padded,
                size,
                top_k=self.settings.top_k,
                mask_threshold=self.settings.mask_threshold,
            )
        return self._chosen(results | {"class_logits": class_logits, "mask_logits": mask_logits})

    def _needs_pixels(self) -> bool:
        return not {"classes", "scores", "segments"}.isdisjoint(self.outputs)

    def _reduce(self, probability: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return what needs every query's mask at the size of the image."""
        if "segments" in self.outputs:
            return plain_reduction.panoptic_segments(
                probability,
                masks,
                self.things,
                object_mask_threshold=self.settings.object_mask_threshold,
                overlap_threshold=self.settings.overlap_threshold,
            )
        if self.settings.semantic == "argmax":
            return {"classes": plain_reduction.best_query_classes(probability, masks)}
        scores = plain_reduction.semantic_scores(probability, masks)
        return {"classes": scores.argmax(1), "scores": scores}

    def _chosen(self, results: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: results[name] for name in result_names(self.outputs, queries="class_logits" in results)}


def result_names(outputs: Sequence[str], *, queries: bool) -> tuple[str, ...]:
    """Return the names of a program's results.

    Args:
        outputs: keys of ``RESULTS``.
        queries: whether the model has queries; a per-pixel baseline has logits alone.
    """
    names = [name for output in outputs for name in RESULTS[output]]
    return tuple(name for name in names if queries or name != "class_logits")


def trace(
    network: ProgramNetwork, *, size: tuple[int, int] | None = None, batch: int | None = None
) -> torch.export.ExportedProgram:
    """Trace a network with ``torch.export``; it is put into evaluation mode.

    Args:
        network: with its reduction.
        size: height and width of the images; None: any.
        batch: how many images a call takes; None: any number.

    Returns:
        A program without operators of this package.

    Raises:
        UserError: if the network cannot be traced for images of any size.
    """
    network = network.eval().to(next(network.model.parameters()).device)
    images = torch.zeros((batch or 2, 3, *(size or _TRACED_SIZE)), dtype=torch.uint8, device=network.mean.device)
    problem: Exception = RuntimeError("nothing was tried")
    for least in _LEAST if size is None else (1,):
        dimensions: dict[int, Any] = {} if batch else {0: torch.export.Dim("batch", min=1, max=_LARGEST)}
        if size is None:
            names = ((2, "height"), (3, "width"))
            dimensions |= {axis: torch.export.Dim(name, min=least, max=_LARGEST) for axis, name in names}
        try:
            return _trace(network, images, dimensions)
        except (torch._dynamo.exc.UserError, RuntimeError, ValueError, AssertionError) as error:
            problem = error
    backbone = getattr(network.model.config, "backbone", "its backbone")
    what = "images of any size: give size=HxW" if size is None else "a number of images per call: give batch=N"
    raise UserError(f"{backbone} cannot be exported for {what} (torch.export: {why(problem)})") from problem


def _trace(network: nn.Module, images: Tensor, dimensions: dict[int, Any]) -> torch.export.ExportedProgram:
    symbolic_shapes: Any = importlib.import_module("torch.fx.experimental._config")

    with (
        torch.no_grad(),
        quiet(),
        _whole_padding(),
        symbolic_shapes.patch(backed_size_oblivious=True),
    ):
        program = torch.export.export(
            network,
            (images,),
            dynamic_shapes=({axis: dimensions[axis] for axis in sorted(dimensions)},),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    # What is asserted is how the memory of the traced size lies. Another size needs no other operators.
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            _clean(module)
    program.example_inputs = None  # which would be written too
    return program


@contextlib.contextmanager
def _whole_padding() -> Iterator[None]:
    """Let timm compute its "same" padding in whole numbers: from its quotients the tracer draws no conclusion."""
    padding: Any = importlib.import_module("timm.layers.padding")

    def same_padding(length: int, kernel_size: int, stride: int, dilation: int) -> int:
        cells = (length + stride - 1) // stride
        return max((cells - 1) * stride + (kernel_size - 1) * dilation + 1 - length, 0)

    usual = padding.get_same_padding
    padding.get_same_padding = same_padding
    try:
        yield
    finally:
        padding.get_same_padding = usual


def _clean(module: torch.fx.GraphModule) -> None:
    """Remove assertions and what is not needed, and forget the paths of this machine."""
    for node in list(module.graph.nodes):
        if "_assert" in str(node.target) and not node.users:
            module.graph.erase_node(node)
        node.meta.pop("stack_trace", None)
    module.graph.eliminate_dead_code()
    module.recompile()


def write_program(program: torch.export.ExportedProgram, path: Path, metadata: ProgramMetadata) -> None:
    """Write a program with its metadata as one file, which appears whole or not at all.

    Args:
        program: of `trace`.
        path: ends in ``.onnx`` or ``.pt2``.
        metadata: of the program.

    Raises:
        UserError: if the packages for ONNX are not installed, or the file cannot be written.
    """
    (_write_onnx if path.suffix == ".onnx" else _write_pt2)(program, path, metadata)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, metadata: ProgramMetadata) -> None:
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError:
            raise UserError(f"ONNX needs the package {package}: pip install 'maskformer-ext[onnx]'") from None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": list(metadata.outputs)}
    with quiet():
        written: Any = torch.onnx.export(program, (), None, dynamo=True, external_data=False, verbose=False, **names)
    written.model.metadata_props.update(metadata.to_texts())
    _name_dimensions(written.model.graph)
    with writing(path) as temporary, quiet():
        written.save(str(temporary), external_data=False)  # weights beside it would have the temporary name


def _name_dimensions(graph: Any) -> None:
    """Give the free dimensions of an ONNX graph names for people, and forget lines and paths of this machine."""
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None  # in terms of the tracer's names; runtimes find the shapes themselves
    for value in (*graph.inputs, *graph.outputs):
        rank = len(value.shape)
        prefix = "mask_" if value.name == "mask_logits" else ""
        names = {0: "batch", rank - 2: f"{prefix}height", rank - 1: f"{prefix}width"} if rank > 2 else {0: "batch"}
        for axis, name in names.items():
            if not isinstance(value.shape[axis], int):
                value.shape[axis] = name


def _write_pt2(program: torch.export.ExportedProgram, path: Path, metadata: ProgramMetadata) -> None:
    archive = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    with quiet():
        torch.export.save(program, archive, extra_files={METADATA_FILE: json.dumps(metadata.to_texts())})
    with writing(path) as temporary:
        temporary.write_bytes(archive.getbuffer())
