"""Sample calls of point_matching_cost."""

import torch

from maskformer_ext.ops import point_matching_cost
from op_samples import Inputs, Sample

OPTIONS = (2.0, 5.0, 5.0)


def sample_points(inputs: Inputs) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(len(inputs.embed), 40, 2, generator=generator)


def samples(inputs: Inputs) -> list[Sample]:
    points = sample_points(inputs)
    layers = {
        "class_logits": torch.stack([inputs.class_logits, inputs.class_logits + 1]),
        "mask_logits": torch.stack([inputs.masks, inputs.masks - 1]),
        "points": torch.stack([points, 1 - points]),
    }
    one = {"class_logits": inputs.class_logits, "mask_logits": inputs.masks, "points": points}
    masks = {"targets": inputs.targets.to_masks(), "sampling": "nearest"}
    return [
        Sample("point_matching_cost", point_matching_cost, layers, {"targets": inputs.targets}),
        Sample("point_matching_cost of masks", point_matching_cost, one, masks),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks, points = inputs.targets, inputs.targets.to_masks(), sample_points(inputs)
    segments, predictions = (targets.labels, targets.num_segments), (inputs.class_logits, inputs.masks)
    return {
        "point_matching_cost": [
            (*predictions, targets.segment_map, *segments, points, *OPTIONS, 0),
            (*predictions, masks.masks, *segments, points, *OPTIONS, 1),
        ]
    }
