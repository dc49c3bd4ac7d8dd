"""Sample calls of matching_cost."""

import torch

from maskformer_ext.ops import matching_cost
from op_samples import Inputs, Sample

OPTIONS = (1.0, 20.0, 1.0, 0.25, 2.0, True)


def samples(inputs: Inputs) -> list[Sample]:
    layers = {
        "class_logits": torch.stack([inputs.class_logits, inputs.class_logits + 1]),
        "mask_logits": torch.stack([inputs.masks, inputs.masks - 1]),
    }
    one = {"class_logits": inputs.class_logits, "mask_logits": inputs.masks}
    masks = {"targets": inputs.targets.to_masks(), "ignore_void": True, "alpha": -1.0}
    return [
        Sample("matching_cost", matching_cost, layers, {"targets": inputs.targets}),
        Sample("matching_cost of masks", matching_cost, one, masks),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks = inputs.targets, inputs.targets.to_masks()
    segments, predictions = (targets.labels, targets.num_segments), (inputs.class_logits, inputs.masks)
    return {
        "matching_cost": [
            (*predictions, targets.segment_map, *segments, None, *OPTIONS),
            (*predictions, masks.masks, *segments, masks.void, *OPTIONS),
        ]
    }
