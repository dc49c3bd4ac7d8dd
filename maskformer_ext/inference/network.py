"""Run the network on images: normalised, padded, and its output cut into one per image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskformer_ext.config.values import CHOICES, check_choice
from maskformer_ext.inference.precision import multiplies_bf16
from maskformer_ext.inference.programs.exported_model import ExportedModel
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.media.images import normalize
from maskformer_ext.ops.support.constants import constant


def run_network(
    model: nn.Module, pixels: Tensor, laps: Sequence[Laps] = (), *, precision: str = "fp32"
) -> list[QueryOutput]:
    """Normalise, pad and run the model on images of one size.

    Args:
        model: its ``config`` gives mean, standard deviation and the multiple to pad to. A program does all this itself.
        pixels: (B, 3, H, W) uint8.
        laps: of the images that share this run; the time is divided among them.
        precision: "fp32", or "bf16" to multiply in bfloat16. A processor that cannot is left at fp32, with a warning.

    Returns:
        One output per image.
    """
    begin = [one.mark() for one in laps[:1]]
    outputs = _run_network(model, pixels, precision)
    if laps:
        end = laps[0].mark()
        for one in laps:
            one.add("network", begin[0], end, share=1 / len(laps))
    return outputs


def _run_network(model: nn.Module, pixels: Tensor, precision: str) -> list[QueryOutput]:
    if isinstance(model, ExportedModel):
        return model.run_queries(pixels)
    weight = next(model.parameters())
    device = weight.device
    config: Any = model.config
    mean, std = (constant(tuple(values), torch.float32, device) for values in (config.pixel_mean, config.pixel_std))
    images = network_input(pixels.to(device), mean, std, config.size_divisibility)
    crop, input_size = (pixels.shape[-2], pixels.shape[-1]), (images.shape[-2], images.shape[-1])
    with _autocast(device, precision):
        output = model(images.to(weight.dtype))  # normalised in float32, whatever the weights are
        masks = output.mask_logits()
    classes: Any = [None] * len(masks) if output.class_logits is None else output.class_logits[-1]
    if precision == "bf16":
        masks, classes = masks.float(), classes.float() if isinstance(classes, Tensor) else classes
    return [QueryOutput(*of_image, input_size, crop) for of_image in zip(classes, masks, strict=True)]


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    check_choice("inference.precision", precision, CHOICES["inference.precision"])
    enabled = precision == "bf16" and multiplies_bf16(device.type)
    if precision == "bf16" and not enabled:
        warnings.warn(
            "this processor has no instructions for products of bfloat16, so the network runs in float32: "
            "give inference.precision=fp32",
            stacklevel=2,
        )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's output is."""
    return model.device if isinstance(model, ExportedModel) else next(model.parameters()).device


def batch_of(images: Sequence[Tensor]) -> Tensor:
    """Return images (3, H, W) of one size as (B, 3, H, W); one image alone is not copied."""
    return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(list(images))


def network_input(pixels: Tensor, mean: Tensor, std: Tensor, multiple: int) -> Tensor:
    """Normalise images, then pad them with zeros at the bottom and right, as in training.

    Args:
        pixels: (B, 3, H, W) uint8.
        mean: (3,) float32 in grey levels, on the same device.
        std: (3,) likewise.
        multiple: of which the sides become multiples; 0 or 1 leaves them.
    """
    images = normalize(pixels, mean, std)
    bottom, right = (-side % max(1, multiple) for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images
