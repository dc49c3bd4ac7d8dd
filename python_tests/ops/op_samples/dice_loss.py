"""Sample calls of dice_loss."""

from maskformer_ext.ops import dice_loss
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    logits = {"mask_logits": inputs.masks[0]}
    inside = inputs.inside[:, : inputs.size[0], : inputs.size[1]]
    return [
        Sample("dice_loss", dice_loss, logits, {"targets": inside}),
        Sample("dice_loss, mean", dice_loss, logits, {"targets": inside.float(), "reduction": "mean"}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    logits = inputs.masks[0].flatten(1)
    inside = inputs.inside[:, : inputs.size[0], : inputs.size[1]].flatten(1)
    backward = inputs.draw(len(logits)), logits, inside, inputs.draw(len(logits), 2)
    return {
        "dice_loss": [(logits, inside), (logits, inside.float())],
        "dice_loss_backward": [backward],
    }
