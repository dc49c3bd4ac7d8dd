"""Sample calls of semantic_inference and semantic_scores."""

import torch

from maskformer_ext.ops import semantic_inference, semantic_scores
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    prediction = {"class_logits": inputs.class_logits[0], "mask_logits": inputs.masks[0]}
    sizes = {"size": inputs.out, "input_size": inputs.input_size, "crop": inputs.crop}
    return [
        Sample("semantic_inference", semantic_inference, prediction, {"size": inputs.out, "flip": True}),
        Sample("semantic_scores", semantic_scores, prediction, {"size": inputs.out}),
        Sample("semantic_scores, resized", semantic_scores, prediction, {**sizes, "resize": "scores"}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    classes, masks = inputs.probability[:, :-1].contiguous(), inputs.masks[0]
    sizes = inputs.out, inputs.input_size, inputs.crop
    out = torch.zeros(inputs.classes, *inputs.out)
    return {
        "semantic_inference": [(classes, masks, *sizes, True, first) for first in (False, True)],
        "semantic_scores": [(classes, masks, out, *sizes, False, first, 0.5) for first in (False, True)],
    }
