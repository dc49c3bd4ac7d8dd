"""What each query says of an image: its classes and its mask, before they are reduced to a result."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.query_output import QueryOutput, require_queries
from maskformer_ext.media.images import resize_shortest_edge


@torch.inference_mode()
def query_masks(model: nn.Module, pixels: Tensor, config: InferenceConfig) -> tuple[Tensor, Tensor]:
    """Run the network on one whole image, whatever ``config.tile``, and return what each query says.

    Args:
        model: a ``MaskFormer``; it is run in evaluation mode.
        pixels: (3, H, W) uint8.
        config: the resize of test time.

    Returns:
        (Q, K + 1) class probabilities, the last one "no object"; (Q, h, w) mask probabilities at the network's
        resolution, without padding. Queries that are not finite are all 0.

    Raises:
        ValueError: if the model is a per-pixel baseline, which has no queries.
    """
    was_training = model.training
    model.eval()
    try:
        resized = resize_shortest_edge(pixels, config.min_size, config.max_size)
        output = run_network(model, resized[None], precision=config.precision)[0]
    finally:
        model.train(was_training)
    return query_probabilities(output)


@torch.inference_mode()
def query_probabilities(output: QueryOutput) -> tuple[Tensor, Tensor]:
    """Return what each query says in the network's output for one image, as `query_masks` does."""
    classes = require_queries(output).float().softmax(-1)
    extent = zip(output.mask_logits.shape[-2:], output.crop, output.input_size, strict=True)
    rows, columns = (math.ceil(cells * valid / padded) for cells, valid, padded in extent)
    masks = output.mask_logits[:, :rows, :columns].float().sigmoid()
    finite = classes.isfinite().all(-1) & masks.isfinite().flatten(1).all(-1)
    return classes.where(finite[:, None], 0).cpu(), masks.where(finite[:, None, None], 0).cpu()
