"""Sample calls of mask_dot."""

import torch

from maskformer_ext.ops import mask_dot
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    one = {"mask_embed": inputs.embed, "mask_features": inputs.features}
    layers = {"mask_embed": torch.stack([inputs.embed, 2 * inputs.embed]), "mask_features": inputs.features}
    return [
        Sample("mask_dot", mask_dot, layers),
        Sample("mask_dot to float32", mask_dot, one, {"out_dtype": torch.float32}),
        Sample("mask_dot, sigmoid", mask_dot, one, {"activation": "sigmoid"}),
        Sample("mask_dot, sigmoid to float32", mask_dot, one, {"activation": "sigmoid", "out_dtype": torch.float32}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    kinds = ((0, torch.float32), (1, torch.float32), (1, torch.bfloat16), (2, torch.bool))
    return {"mask_dot": [(inputs.embed, inputs.features, activation, dtype) for activation, dtype in kinds]}
