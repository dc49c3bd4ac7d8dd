"""What the families share: the predictions of inner layers on demand, and pairs in transformers' order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.modeling.outputs import MaskFormerOutput


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


def with_spare_class(class_logits: Tensor) -> Tensor:
    """Append a class without probability, so that "no object" is a label, as transformers allows."""
    return F.pad(class_logits, (0, 1), value=-torch.inf)


def sorted_pairs(query: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the query of each segment into (queries, segments) with ascending queries, as scipy orders them."""
    segment = (query >= 0).nonzero().flatten()
    queries, order = query[segment].sort()
    return queries, segment[order]
