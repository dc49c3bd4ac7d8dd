"""Sample calls of sigmoid_focal_loss."""

from maskformer_ext.ops import sigmoid_focal_loss
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    tensors = {"inputs": inputs.masks[0], "targets": inputs.masks[1].abs().clamp(max=1)}
    return [
        Sample("sigmoid_focal_loss", sigmoid_focal_loss, tensors, wrt=("inputs",)),
        Sample("sigmoid_focal_loss, mean", sigmoid_focal_loss, tensors, {"reduction": "mean"}, wrt=("inputs",)),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    logits, targets = inputs.masks[0], inputs.masks[1].abs().clamp(max=1)
    return {
        "sigmoid_focal_loss": [(logits, targets, 0.25, 2.0, reduction) for reduction in (0, 1, 2)],
        "sigmoid_focal_loss_backward": [(inputs.draw(*logits.shape), logits, targets, 0.25, 2.0)],
    }
