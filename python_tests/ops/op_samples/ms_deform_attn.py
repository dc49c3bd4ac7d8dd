"""Sample calls of ms_deform_attn."""

from maskformer_ext.ops import ms_deform_attn
from op_samples import Inputs, Sample

_SHAPES = ((2, 3), (4, 5))


def _tensors(inputs: Inputs, *points: int) -> dict:
    heads, channels = (4, 16) if inputs.queries > 3 else (2, 3)
    return {
        "value": inputs.draw(2, 26, heads, channels),
        "sampling_locations": inputs.draw(2, inputs.queries, heads, *points, 2) * 0.4 + 0.5,
        "attention_weights": inputs.draw(2, inputs.queries, heads, *points),
    }


def samples(inputs: Inputs) -> list[Sample]:
    usual = {"spatial_shapes": _SHAPES}
    ragged = {**usual, "points_per_level": (3, 1)}
    discrete = {**ragged, "sampling": "discrete"}
    smooth = ("value", "attention_weights")
    return [
        Sample("ms_deform_attn", ms_deform_attn, _tensors(inputs, 2, 3), usual),
        Sample("ms_deform_attn, points per level", ms_deform_attn, _tensors(inputs, 4), ragged),
        Sample("ms_deform_attn, discrete", ms_deform_attn, _tensors(inputs, 4), discrete, wrt=smooth),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    value, locations, weights = _tensors(inputs, 4).values()
    sizes = [size for level in _SHAPES for size in level]
    grad = inputs.draw(2, inputs.queries, value.shape[2] * value.shape[3])
    calls = [(value, sizes, locations, weights, [3, 1], discrete) for discrete in (False, True)]
    return {
        "ms_deform_attn": calls,
        "ms_deform_attn_backward": [
            (grad, *call, to_value, to_points)
            for call in calls
            for to_value, to_points in ((True, True), (True, False), (False, True))
        ],
    }
