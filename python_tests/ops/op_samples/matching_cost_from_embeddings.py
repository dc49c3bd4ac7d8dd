"""Sample calls of matching_cost_from_embeddings."""

from maskformer_ext.ops import matching_cost_from_embeddings
from op_samples import Inputs, Sample
from op_samples.matching_cost import OPTIONS


def samples(inputs: Inputs) -> list[Sample]:
    one = {"class_logits": inputs.class_logits, "mask_embed": inputs.embed, "mask_features": inputs.features}
    layers = one | {"class_logits": inputs.class_logits[None], "mask_embed": inputs.embed[None]}
    name, function = "matching_cost_from_embeddings", matching_cost_from_embeddings
    return [
        Sample(name, function, layers, {"targets": inputs.targets}),
        Sample(f"{name} of masks", function, one, {"targets": inputs.targets.to_masks(), "ignore_void": True}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks = inputs.targets, inputs.targets.to_masks()
    predictions = inputs.class_logits, inputs.embed, inputs.features
    segments = targets.labels, targets.num_segments
    return {
        "matching_cost_from_embeddings": [
            (*predictions, targets.segment_map, *segments, None, *OPTIONS, False),
            (*predictions, masks.masks, *segments, masks.void, *OPTIONS, False),
        ]
    }
