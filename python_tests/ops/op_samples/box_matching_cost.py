"""Sample calls of box_matching_cost."""

import torch
from torch import Tensor

from maskformer_ext.ops import BoxTargets, box_matching_cost
from op_samples import Inputs, Sample

OPTIONS = (2.0, 5.0, 2.0)


def draw_boxes(inputs: Inputs, *shape: int) -> Tensor:
    """Return boxes with centres within the image, up to half of it wide and high."""
    return inputs.draw(*shape, 4).mul(0.1).abs().clamp(max=0.5) + torch.tensor([0.3, 0.3, 0.02, 0.02])


def samples(inputs: Inputs) -> list[Sample]:
    boxes, targets = draw_boxes(inputs, 2, inputs.queries), _targets(inputs)
    layers = {
        "logits": torch.stack([inputs.class_logits, inputs.class_logits + 1]),
        "boxes": torch.stack([boxes, boxes.flip(1)]),
    }
    one = {"logits": inputs.class_logits, "boxes": boxes}
    return [
        Sample("box_matching_cost", box_matching_cost, layers, {"targets": targets}),
        Sample("box_matching_cost, softmax", box_matching_cost, one, {"targets": targets, "class_cost": "softmax"}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    predictions, targets = (inputs.class_logits, draw_boxes(inputs, 2, inputs.queries)), _targets(inputs)
    fields = targets.boxes, targets.labels, targets.num_segments
    return {
        "box_matching_cost": [
            (*predictions, *fields, *OPTIONS, False, 0.25, 2.0),
            (*predictions, *fields, *OPTIONS, True, -1.0, 1.5),
        ]
    }


def _targets(inputs: Inputs) -> BoxTargets:
    labels, counts = inputs.targets.labels, inputs.targets.num_segments
    return BoxTargets(draw_boxes(inputs, *labels.shape), labels, counts)
