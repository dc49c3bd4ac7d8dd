"""Sample calls of linear_sum_assignment."""

import torch

from maskformer_ext.ops import linear_sum_assignment
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    cost = inputs.class_logits
    name, function = "linear_sum_assignment", linear_sum_assignment
    return [
        Sample(name, function, {"cost": cost}, {"num_targets": torch.tensor([2, inputs.classes])}),
        Sample(f"{name} of one", function, {"cost": cost[0]}, {"num_targets": torch.tensor(inputs.classes)}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    return {"linear_sum_assignment": [(inputs.class_logits, torch.tensor([2, inputs.classes]))]}
