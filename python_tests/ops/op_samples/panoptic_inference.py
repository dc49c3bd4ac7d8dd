"""Sample calls of panoptic_inference."""

from maskformer_ext.ops import panoptic_inference
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    prediction = {"class_logits": inputs.class_logits[0], "mask_logits": inputs.masks[0]}
    return [Sample("panoptic_inference", panoptic_inference, prediction, {"size": inputs.out, "thing_classes": [0]})]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    options = inputs.out, [0, 2], 0.3, 0.1, 0.5
    sizes = inputs.input_size, inputs.crop
    prediction = inputs.probability, inputs.masks[0]
    return {
        "panoptic_inference": [
            (*prediction, *options, None, None, True, True),
            (*prediction, *options, *sizes, False, False),
            (*prediction, *options, *sizes, False, False, True),
        ]
    }
