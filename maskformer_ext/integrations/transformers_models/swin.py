"""The Swin backbone of transformers: backward computes the activation of its feed-forward networks again."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from maskformer_ext.integrations.transformers_models.formed_again import activate, forming_again
from maskformer_ext.integrations.transformers_models.parts import Part


class FeedForward(nn.Module):
    """Before ``SwinMLP``: of the wide states only the activation's input is kept, not its result too."""

    fc1: nn.Module
    fc2: nn.Module
    activation_fn: Any

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform each position; argument and result as in transformers."""
        inner = activate(self.activation_fn, self.fc1(hidden_states))
        with forming_again(inner):
            return self.fc2(inner)


MODEL_PARTS = (
    Part(
        ("SwinMLP",),
        FeedForward,
        "activation computed again in backward",
        needs=("fc1", "fc2", "activation_fn"),
        within=("Mask2FormerLoss", "OneFormerLoss"),  # whose steps are measured with it
    ),
)
