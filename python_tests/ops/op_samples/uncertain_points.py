"""Sample calls of uncertain_points."""

from maskformer_ext.ops import uncertain_points
from op_samples import Inputs, Sample


def samples(inputs: Inputs) -> list[Sample]:
    candidates = 0.5 + 0.3 * inputs.draw(inputs.queries, 61, 2)  # some lie outside
    logits = {"mask_logits": inputs.masks[0]}
    none = {"candidates": candidates[:0], "count": 3}
    return [
        Sample("uncertain_points", uncertain_points, logits, {"candidates": candidates, "count": 23}),
        Sample("uncertain_points of none", uncertain_points, {"mask_logits": inputs.masks[0, :0]}, none),
    ]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    candidates = 0.5 + 0.3 * inputs.draw(inputs.queries, 61, 2)
    return {"uncertain_points": [(inputs.masks[0], candidates, 23)]}
