"""An exponential moving average of the weights, which often scores better than the weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Follow the weights of a model.

    Args:
        model: the model to follow; its present weights are the start.
        decay: share of the average that stays in each update. Update n uses (1 + n) / (10 + n) where that is smaller:
            the random start is then forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        source, own = model.state_dict(), self.model.state_dict()
        smooth = [key for key, value in own.items() if value.is_floating_point()]
        self._from, self._to = [source[key] for key in smooth], [own[key] for key in smooth]
        self._exact = [(own[key], source[key]) for key in own if key not in set(smooth)]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move the average towards the model.

        Args:
            updates: how many updates came before this one.
        """
        decay = min(self._decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(self._to, self._from, 1.0 - decay)
        for own, source in self._exact:
            own.copy_(source)
