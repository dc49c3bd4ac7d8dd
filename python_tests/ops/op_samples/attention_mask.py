"""Sample calls of attention_mask."""

from maskformer_ext.ops import attention_mask
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    tensors = {"mask_embed": inputs.embed, "mask_features": inputs.features}
    same = tuple(inputs.features.shape[-2:])
    return [
        Sample("attention_mask", attention_mask, tensors, {"size": (3, 5)}),
        Sample("attention_mask of features that have the size", attention_mask, tensors, {"size": same}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    return {"attention_mask": [(inputs.embed, inputs.features, (3, 5), False)]}
