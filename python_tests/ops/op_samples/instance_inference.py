"""Sample calls of instance_inference."""

from maskformer_ext.ops import instance_inference
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    prediction = {"class_logits": inputs.class_logits[0], "mask_logits": inputs.masks[0]}
    return [Sample("instance_inference", instance_inference, prediction, {"size": inputs.out})]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    return {"instance_masks": [(inputs.masks[0], inputs.out, 0.0, inputs.input_size, inputs.crop)]}
