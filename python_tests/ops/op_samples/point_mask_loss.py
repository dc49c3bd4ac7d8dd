"""Sample calls of point_mask_loss."""

from maskformer_ext.ops import point_mask_loss
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    logits = {"mask_logits": inputs.masks[0]}
    points = 0.5 + 0.3 * inputs.draw(inputs.queries, 37, 2)  # some lie outside
    pairs = {"image_index": inputs.image, "segment_index": inputs.segment, "points": points}
    none = {"targets": inputs.targets, "points": points[:0]}
    empty = {"image_index": inputs.image[:0], "segment_index": inputs.segment[:0]}
    return [
        Sample("point_mask_loss", point_mask_loss, logits, {"targets": inputs.targets, **pairs}),
        Sample(
            "point_mask_loss of masks, nearest",
            point_mask_loss,
            logits,
            {"targets": inputs.targets.to_masks(), **pairs, "sampling": "nearest"},
        ),
        Sample("point_mask_loss of none", point_mask_loss, {"mask_logits": inputs.masks[0, :0]}, {**none, **empty}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks = inputs.targets, inputs.targets.to_masks()
    points, grad = 0.5 + 0.3 * inputs.draw(inputs.queries, 37, 2), inputs.draw(inputs.queries)
    of_map = inputs.masks[0], targets.segment_map, targets.num_segments, inputs.image, inputs.segment, points, False
    of_masks = inputs.masks[0], masks.masks, masks.num_segments, inputs.image, inputs.segment, points, True
    coefficients = inputs.draw(inputs.queries, 3)
    return {
        "point_mask_loss": [of_map, of_masks],
        "point_mask_loss_backward": [(*of_map, coefficients, grad, None), (*of_masks, coefficients, grad, grad)],
    }
