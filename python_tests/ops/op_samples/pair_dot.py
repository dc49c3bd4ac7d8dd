"""Sample calls of pair_dot."""

import torch

from maskformer_ext.ops import pair_dot
from op_samples import Inputs, Sample


def _image(inputs: Inputs) -> torch.Tensor:
    """The images of the pairs: ascending, the last of them no pair."""
    image = torch.arange(inputs.queries) // (inputs.queries // 2)
    return torch.where(image < 2, image, -1)


def samples(inputs: Inputs) -> list[Sample]:
    tensors = {"pair_embed": inputs.embed.transpose(0, 1).contiguous(), "mask_features": inputs.features}
    image = _image(inputs)
    rest = {"image_index": image, "max_segments": int(torch.bincount(image.clamp(min=0)).max())}
    return [Sample("pair_dot", pair_dot, tensors, rest)]


def native_calls(inputs: Inputs) -> dict[str, list[tuple]]:
    embed, features = inputs.embed.transpose(0, 1).contiguous(), inputs.features.flatten(2)
    image = _image(inputs)
    grad = inputs.draw(*embed.shape[:2], features.shape[2])
    return {
        "pair_dot": [(embed, features, image)],
        "pair_dot_backward": [(grad, embed, features, image)],
    }
