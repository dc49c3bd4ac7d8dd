"""Programs of plain operators: network and semantic post-processing, traced, written, and compared with the network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.errors import UserError
from maskformer_ext.files import writing
from maskformer_ext.inference.network import network_input, run_network
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.modeling.per_pixel import PerPixelOutput, enlarge

_TOLERANCE = 1e-3
_NEAR_TIE = 1e-3  # share of pixels whose two best classes are so close that rounding decides


class SemanticNetwork(nn.Module):
    """A network with everything around it that `segment` does for the semantic task, in plain PyTorch operators.

    It makes every query's mask at the size of the image, which the kernels avoid: it is meant for export only. The
    result has the size of the image, where it does not matter whether logits or scores are resized.

    Args:
        model: a ``MaskFormer`` or a per-pixel baseline.
        scores: return the scores of all classes instead of the best class.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, *, scores: bool = False) -> None:
        super().__init__()
        config: Any = model.config
        self.model, self.scores = model, scores
        self.multiple = config.size_divisibility
        self.register_buffer("mean", torch.tensor(config.pixel_mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.pixel_std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Segment (B, 3, H, W) uint8 RGB images.

        Returns:
            (B, H, W) int64 class ids, or (B, K, H, W) float32 scores. Unlike in `segment`, a query that is not finite
            makes its image's scores NaN.
        """
        height, width = images.shape[-2:]
        padded = network_input(images, self.mean, self.std, self.multiple)
        output = self.model(padded.to(next(self.model.parameters()).dtype))
        if isinstance(output, PerPixelOutput):
            scores = enlarge(output.logits, padded.shape[-2])
        else:
            classes = output.class_logits[-1].float().softmax(-1)[..., :-1]
            masks = F.interpolate(output.mask_logits().float(), padded.shape[-2:], mode="bilinear", align_corners=False)
            scores = torch.einsum("bqk,bqhw->bkhw", classes, masks.sigmoid())
        scores = scores[..., :height, :width]
        return scores if self.scores else scores.argmax(1)


def export_program(
    model: nn.Module, size: tuple[int, int], *, batch_size: int = 1, scores: bool = False
) -> torch.export.ExportedProgram:
    """Trace network and semantic post-processing with ``torch.export``.

    Args:
        model: a ``MaskFormer`` or a per-pixel baseline; it is put into evaluation mode.
        size: height and width of the images, fixed.
        batch_size: how many images a call takes, fixed.
        scores: return scores instead of classes.

    Returns:
        A program without operators of this package: uint8 (B, 3, H, W) to (B, H, W) int64 or (B, K, H, W) float32.
    """
    network = SemanticNetwork(model, scores=scores).eval().to(next(model.parameters()).device)
    images = torch.zeros((batch_size, 3, *size), dtype=torch.uint8, device=network.mean.device)
    with torch.no_grad():
        return torch.export.export(network, (images,))


def export_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program of `export_program` as one ONNX file; it appears whole or not at all.

    Raises:
        UserError: if the packages for ONNX are not installed, or the file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError:
            raise UserError(f"ONNX needs the package {package}: pip install 'maskformer-ext[onnx]'") from None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["result"]}
    with writing(path) as temporary:  # one file: weights beside it would be looked for under the temporary name
        torch.onnx.export(program, (), str(temporary), dynamo=True, external_data=False, verbose=False, **names)


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program for ``torch.export.load``; it appears whole or not at all.

    Raises:
        UserError: if the file cannot be written.
    """
    archive = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
    torch.export.save(program, archive)
    with writing(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def check_export(model: nn.Module, path: Path, size: tuple[int, int], batch_size: int, *, scores: bool) -> str:
    """Run a written program on random images and compare it with the network on this package's operators.

    Returns:
        In words how well they agree, or that ONNX was not run for want of onnxruntime.

    Raises:
        UserError: if they disagree.
    """
    images = torch.randint(0, 256, (batch_size, 3, *size), dtype=torch.uint8)
    if path.suffix == ".onnx":
        try:
            import onnxruntime
        except ImportError:
            return "not run: onnxruntime is not installed"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    else:
        with torch.no_grad():
            found = torch.export.load(path).module()(images)
    reduce = Reducer(["semantic"], None, InferenceConfig(resize="scores"))
    with torch.inference_mode():
        outputs = run_network(model.eval(), images)
        expected = torch.stack([reduce.scores(output, size) for output in outputs])
    if scores:
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error <= _TOLERANCE:
            raise UserError(f"{path}: its scores differ from the network's by {error:.1e} of the largest")
        return f"scores agree with the network's to {error:.1e} of the largest"
    top = expected.topk(min(2, expected.shape[1]), dim=1).values
    clear = top[:, 0] - top[:, -1] > _NEAR_TIE * top[:, 0]
    share = float((found == expected.argmax(1))[clear].float().mean()) if clear.any() else 1.0
    if share < 1.0:
        raise UserError(f"{path}: only {100 * share:.2f}% of its classes are the network's")
    return f"classes agree with the network's in {int(clear.sum())} of {clear.numel()} pixels; the others are near ties"
