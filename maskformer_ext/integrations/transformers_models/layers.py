"""What the families share: the predictions of inner layers on demand, and pairs in transformers' order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops.mask_dot import mask_dot


class AuxiliaryLogits(Sequence[dict[str, Tensor]]):
    """The predictions of the inner decoder layers; their mask logits are formed when they are asked for.

    Attributes:
        prediction: the predictions of all supervised layers.
    """

    def __init__(self, prediction: MaskFormerOutput) -> None:
        self.prediction = prediction

    def __len__(self) -> int:
        return len(self.prediction.class_logits) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[layer] for layer in range(*index.indices(len(self)))]
        layer = range(len(self))[index]
        return {
            "masks_queries_logits": self.prediction.mask_logits(layer),
            "class_queries_logits": self.prediction.class_logits[layer],
        }

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[layer] for layer in range(len(self)))


class MaskLogits(Sequence[Tensor]):
    """The mask logits of all supervised layers, each formed when it is asked for.

    Attributes:
        mask_embed: of each layer (B, Q, C).
        mask_features: (B, C, h, w).
    """

    def __init__(self, mask_embed: Sequence[Tensor], mask_features: Tensor) -> None:
        self.mask_embed = tuple(mask_embed)
        self.mask_features = mask_features
        self._last: Tensor | None = None  # asked for twice, by the loss and by the output

    def __len__(self) -> int:
        return len(self.mask_embed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[layer] for layer in range(*index.indices(len(self))))
        layer = range(len(self))[index]
        if layer < len(self) - 1:
            return mask_dot(self.mask_embed[layer], self.mask_features)
        if self._last is None:
            self._last = mask_dot(self.mask_embed[-1], self.mask_features)
        return self._last

    def __iter__(self) -> Iterator[Tensor]:
        return (self[layer] for layer in range(len(self)))


def count_masks(loss: Any, labels: Any, device: torch.device, layers: int) -> Tensor:
    """Return what a loss of transformers divides by, which `get_num_masks` averages over the processes.

    It is called once per layer, as by transformers: another process may run transformers' code for its images, and
    each call waits for all processes.
    """
    for _ in range(layers - 1):
        loss.get_num_masks(labels, device=device)
    return loss.get_num_masks(labels, device=device)


def with_spare_class(class_logits: Tensor) -> Tensor:
    """Append a class without probability, so that "no object" is a label, as transformers allows."""
    return F.pad(class_logits, (0, 1), value=-torch.inf)


def sorted_pairs(query: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the query of each segment into (queries, segments) with ascending queries, as scipy orders them."""
    segment = (query >= 0).nonzero().flatten()
    queries, order = query[segment].sort()
    return queries, segment[order]
