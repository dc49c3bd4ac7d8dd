"""Sample calls of matched_mask_loss."""

from maskformer_ext.ops import matched_mask_loss
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    logits = {"mask_logits": inputs.masks[0]}
    pairs = {"image_index": inputs.image, "segment_index": inputs.segment}
    masks = {"targets": inputs.targets.to_masks(), "ignore_void": True}
    none = {"targets": inputs.targets, "image_index": inputs.image[:0], "segment_index": inputs.segment[:0]}
    return [
        Sample("matched_mask_loss", matched_mask_loss, logits, {"targets": inputs.targets, **pairs}),
        Sample("matched_mask_loss of masks", matched_mask_loss, logits, {**masks, **pairs}),
        Sample("matched_mask_loss of none", matched_mask_loss, {"mask_logits": inputs.masks[0, :0]}, none),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks = inputs.targets, inputs.targets.to_masks()
    pairs = inputs.image, inputs.segment, 0.25, 2.0, True
    return {
        "matched_mask_loss": [
            (inputs.masks[0], targets.segment_map, targets.num_segments, None, *pairs, True),
            (inputs.masks[0], masks.masks, masks.num_segments, masks.void, *pairs, True),
        ]
    }
