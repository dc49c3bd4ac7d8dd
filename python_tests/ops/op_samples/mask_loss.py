"""Sample calls of mask_loss."""

import torch

from maskformer_ext.ops import mask_loss
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    logits, full = {"mask_logits": inputs.masks[0]}, {"mask_logits": inputs.draw(*inputs.inside.shape)}
    return [
        Sample("mask_loss", mask_loss, logits, {"targets": inputs.inside}),
        Sample("mask_loss of floats", mask_loss, logits, {"targets": inputs.inside.float()}),
        Sample("mask_loss, not resized", mask_loss, full, {"targets": inputs.inside, "alpha": -1.0, "gamma": 0.0}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    logits, grad = inputs.masks[0], inputs.draw(inputs.queries)
    backward = inputs.draw(inputs.queries, 3, *inputs.size), inputs.draw(inputs.queries, 3), grad, None, torch.float32
    return {
        "mask_loss": [
            (logits, inputs.inside, 0.25, 2.0, True),
            (logits, inputs.inside.float(), 0.25, 2.0, True),
            (logits.detach(), inputs.inside, 0.25, 2.0, False),
        ],
        "mask_loss_backward": [backward],
    }
