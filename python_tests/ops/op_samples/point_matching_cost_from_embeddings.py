"""Sample calls of point_matching_cost_from_embeddings."""

from maskformer_ext.ops import point_matching_cost_from_embeddings
from op_samples import Inputs, Sample
from op_samples.point_matching_cost import OPTIONS, sample_points


def samples(inputs: Inputs) -> list[Sample]:
    points = sample_points(inputs)
    one = {
        "class_logits": inputs.class_logits,
        "mask_embed": inputs.embed,
        "mask_features": inputs.features,
        "points": points,
    }
    layers = one | {name: one[name][None] for name in ("class_logits", "mask_embed", "points")}
    name, function = "point_matching_cost_from_embeddings", point_matching_cost_from_embeddings
    return [
        Sample(name, function, layers, {"targets": inputs.targets}),
        Sample(f"{name} of masks", function, one, {"targets": inputs.targets.to_masks(), "sampling": "nearest"}),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    targets, masks, points = inputs.targets, inputs.targets.to_masks(), sample_points(inputs)
    predictions = inputs.class_logits, inputs.embed, inputs.features
    segments = targets.labels, targets.num_segments
    return {
        "point_matching_cost_from_embeddings": [
            (*predictions, targets.segment_map, *segments, points, *OPTIONS, 0, False),
            (*predictions, masks.masks, *segments, points, *OPTIONS, 1, False),
        ]
    }
