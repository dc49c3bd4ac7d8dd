"""Run what was written and compare each of its results with the network on this package's own operators."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.errors import UserError, printable
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.programs.metadata import ProgramMetadata
from maskformer_ext.inference.programs.runtimes import RUNTIMES, CannotRun, is_installed, open_program
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.ops.instance_inference import Instances

_TOLERANCE = 1e-3  # of the largest value
_FEW = 0.05  # share of values that may differ by more: one decision at a tie changes a whole query
_NEAR_TIE = 1e-3  # of two values between which rounding decides
_NOTHING = 1e-6  # a score that a runtime may take for 0: some cut the sigmoid off there
_STRAY = 1e-3  # share of pixels beside steep borders, where runtimes round places differently
_SIZES = ((224, 320, 1), (187, 250, 2))  # height, width and batch, where they are free


class Differs(UserError):
    """A program's result is not the network's."""


def check_program(
    model: nn.Module, path: Path, metadata: ProgramMetadata, images: Sequence[Tensor] | None = None
) -> list[str]:
    """Run a written program in every runtime that is installed, at two sizes where it takes any.

    Args:
        model: the network.
        path: of the program.
        metadata: of it.
        images: (B, 3, H, W) uint8 to compare on; None: random ones.

    Returns:
        A line per runtime: how well each result agrees, or that it is not installed.

    Raises:
        UserError: if a result of the first runtime is not the network's. Another runtime that computes something else
            gets a line: the file is right then.
    """
    lines = []
    for runtime in RUNTIMES[path.suffix.lower()]:
        if runtime == "torch" or is_installed(runtime):
            try:
                lines.append(_check_in(runtime, model, path, metadata, images or _random_images(metadata)))
            except CannotRun as error:
                if not lines:  # the first is the one that predict takes
                    raise
                lines.append(f"warning: {error}; size=HxW and batch=N may help")
            except Differs as error:
                if not lines:
                    raise
                lines.append(f"warning: {error}: run this file in {RUNTIMES[path.suffix.lower()][0]}")
        else:
            lines.append(f"not checked in {runtime}, which is not installed")
    return lines


def _random_images(metadata: ProgramMetadata) -> list[Tensor]:
    """Return noise of many wavelengths: of plain noise many networks see nothing."""
    draw = torch.Generator().manual_seed(0)
    images = []
    for height, width, batch in _SIZES if metadata.size is None or metadata.batch is None else _SIZES[:1]:
        size = metadata.size or (height, width)
        noise = torch.zeros((metadata.batch or batch, 3, *size))
        for cells in (3, 12, 48):
            waves = torch.rand((len(noise), 3, cells, cells), generator=draw)
            noise += F.interpolate(waves, size, mode="bilinear")
        images.append((noise * 85).to(torch.uint8))
    return images


def _check_in(runtime: str, model: nn.Module, path: Path, metadata: ProgramMetadata, images: Sequence[Tensor]) -> str:
    run = open_program(path, metadata.outputs, metadata.outputs, runtime, "cpu")
    comparison = _Comparison(f"{printable(path)} in {runtime}", metadata)
    for batch in images:
        results = dict(zip(metadata.outputs, run(batch), strict=True))
        with torch.inference_mode():
            comparison.add(results, run_network(model.eval(), batch))
    sizes = " and ".join(f"{batch.shape[0]}x{batch.shape[2]}x{batch.shape[3]}" for batch in images)
    return f"agrees with the network in {runtime} {_version(runtime)}, images {sizes}: {comparison}"


def _version(runtime: str) -> str:
    if runtime == "torch":
        return torch.__version__.partition("+")[0]
    try:
        return importlib.metadata.version(runtime)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime-gpu is imported by the same name
        return ""


class _Comparison:
    """How well the results of a program agree with the network's, over several images.

    What is reduced is compared with the kernels on the program's own logits, where it gives them.
    """

    def __init__(self, what: str, metadata: ProgramMetadata) -> None:
        self._what, self._metadata = what, metadata
        things = metadata.info.thing_classes or None
        self._reduce = Reducer([metadata.task], things, replace(metadata.recipe.inference, resize="scores"))
        self._errors: dict[str, float] = {}
        self._shares: dict[str, tuple[int, int]] = {}

    def __str__(self) -> str:
        errors = [f"{name} to {error:.0e} of the largest" for name, error in self._errors.items()]
        shares = [f"{equal} of {count} {name}" for name, (equal, count) in self._shares.items()]
        return ", ".join([*shares, *errors])

    def add(self, results: dict[str, Tensor], expected: Sequence[QueryOutput]) -> None:
        """Compare the results of one call."""
        own = list(expected)
        masks, classes = results.get("mask_logits"), results.get("class_logits")
        if masks is not None:
            self._compare("mask_logits", masks, torch.stack([output.mask_logits for output in expected]))
            own = [replace(output, mask_logits=mask.clone()) for output, mask in zip(own, masks, strict=True)]
        if classes is not None:
            logits = [output.class_logits for output in expected if output.class_logits is not None]
            self._compare("class_logits", classes, torch.stack(logits))
            own = [replace(output, class_logits=logit.clone()) for output, logit in zip(own, classes, strict=True)]
        for place, output in enumerate(own):
            of_image = {name: values[place].clone() for name, values in results.items()}
            with torch.inference_mode():
                self._add_image(of_image, output)

    def _add_image(self, results: dict[str, Tensor], output: QueryOutput) -> None:
        task = self._metadata.task
        if task == "instance" and "masks" in results:
            self._instances(results, self._reduce.instance(output, output.crop))
        elif task == "panoptic" and "segment_map" in results:
            self._segments(results, output)
        elif "classes" in results or "scores" in results:
            self._semantic(results, output)

    def _semantic(self, results: dict[str, Tensor], output: QueryOutput) -> None:
        if self._reduce.settings.semantic == "argmax":
            equal = results["classes"] == self._reduce.semantic(output, output.crop).class_map
            self._count("pixels have the same class", equal, least=0.99)
            return
        scores = self._reduce.scores(output, output.crop)
        if "scores" in results:
            self._compare("scores", results["scores"], scores)
        if "classes" in results:
            top = scores.topk(min(2, len(scores)), dim=0).values
            clear = top[0] - top[-1] > _NEAR_TIE * top[0].abs() + _NOTHING
            equal = results["classes"] == scores.argmax(0)
            self._count("pixels have the same class", equal)
            if int((~equal[clear]).sum()) > _STRAY * equal.numel():
                raise self._differs("classes", f"{int((~equal[clear]).sum())} of {equal.numel()} pixels")

    def _segments(self, results: dict[str, Tensor], output: QueryOutput) -> None:
        expected = self._reduce.panoptic(output, output.crop)
        infos = expected.segments_info
        same_map = results["segment_map"] == expected.segment_map
        undecided = self._undecided(results, output)
        self._count("pixels have the same segment", same_map, least=0.0 if undecided else 0.99)
        ids = [info["id"] for info in infos]
        if undecided or (ids == results["ids"][: len(ids)].tolist() and not results["ids"][len(ids) :].any()):
            labels = results["labels"][: len(ids)] == torch.tensor([info["category_id"] for info in infos])
            self._count("segments have the same class", labels, least=0.0 if undecided else 1.0)
            return
        raise self._differs("ids", f"{int((results['ids'] > 0).sum())} segments instead of {len(ids)}")

    def _undecided(self, results: dict[str, Tensor], output: QueryOutput) -> bool:
        """Return whether some query is so near a threshold that rounding decides whether it becomes a segment."""
        settings = self._reduce.settings
        around = [
            replace(settings, **{key: getattr(settings, key) * (1 + sign * _NEAR_TIE)})
            for key in ("object_mask_threshold", "overlap_threshold")
            for sign in (-1, 1)
        ]
        found = [
            [
                info["category_id"]
                for info in Reducer(["panoptic"], self._reduce.thing_classes, near)
                .panoptic(output, output.crop)
                .segments_info
            ]
            for near in around
        ]
        return any(labels != found[0] for labels in found)

    def _instances(self, results: dict[str, Tensor], expected: Instances) -> None:
        found = results["labels"] >= 0
        masks, labels, scores = (results[name][found] for name in ("masks", "labels", "scores"))
        boxes = results["boxes"][found]
        if abs(len(labels) - len(expected)) > _FEW * max(len(expected), 1) + 1:
            raise self._differs("masks", f"{len(labels)} instances instead of {len(expected)}")
        equal = torch.zeros(len(expected), dtype=torch.bool)
        truths = expected.masks
        for row in range(len(expected)):
            near = (labels == expected.labels[row]) & ((scores - expected.scores[row]).abs() < _TOLERANCE)
            near &= ((boxes - expected.boxes[row]).abs().amax(-1)) <= 1
            candidates = masks[near]
            both = (candidates & truths[row]).sum((-2, -1))
            equal[row] = bool((both > 0.99 * (candidates | truths[row]).sum((-2, -1))).any())
        self._count("instances have the same class, score, box and mask", equal, least=1 - _FEW)

    def _compare(self, name: str, found: Tensor, expected: Tensor) -> None:
        difference = (found.float() - expected.float()).abs() / expected.float().abs().max().clamp(min=1e-6)
        if not float((~(difference <= _TOLERANCE)).float().mean()) <= _FEW:
            raise self._differs(name, f"{float(difference.max()):.0e} of the largest")
        self._errors[name] = max(self._errors.get(name, 0.0), float(difference.max()))

    def _count(self, name: str, equal: Tensor, *, least: float = 0.0) -> None:
        before = self._shares.get(name, (0, 0))
        self._shares[name] = before[0] + int(equal.sum()), before[1] + equal.numel()
        if equal.numel() and float(equal.float().mean()) < least:
            raise self._differs(name, f"only {int(equal.sum())} of {equal.numel()}")

    def _differs(self, name: str, amount: Any) -> Differs:
        return Differs(f"{self._what} does not do what the network does: {name}: {amount}")
