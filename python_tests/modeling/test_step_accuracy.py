"""A training step in float32 against float64: with the same matching, only rounding separates them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from maskformer_ext import build_model
from maskformer_ext.config.load import load_config
from maskformer_ext.modeling import products
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import SegmentTargets


class _Given(nn.Module):
    """A matcher that answers what another one found, so that near ties cannot be decided twice."""

    def __init__(self, query: Tensor) -> None:
        super().__init__()
        self.query = query

    def forward(self, out: object, targets: object) -> Tensor:
        return self.query


def _step(model: nn.Module, criterion: nn.Module, images: Tensor, targets: SegmentTargets) -> tuple[Tensor, Tensor]:
    """Return all losses and all gradients, a vector each in float64."""
    model.zero_grad(set_to_none=True)
    total, losses, _counts = criterion(model(images), targets)
    total.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return torch.stack(list(losses.values())).detach().double(), torch.cat(gradients).double()


@pytest.mark.parametrize("recipe", ["digits", "camvid", "nuclei"])
def test_losses_and_gradients_differ_from_float64_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(products, "_LEAST_PRODUCTS", 1)
    config = load_config(recipe)
    config.model.backbone_weights = None
    config.model.masked_attention = False  # whether a cell is attended to is a decision at a tie as well
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=4).train()
    exact = copy.deepcopy(model).double()
    images = torch.randn(2, 3, 96, 64)
    segments = torch.randint(5, (2, 6, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.int16)
    targets = SegmentTargets(segments, torch.randint(4, (2, 5)), torch.full((2,), 5)).with_pairs()
    criterion = build_criterion(model, config.criterion)
    assert isinstance(criterion, MaskFormerCriterion)
    with torch.no_grad():
        criterion.matcher = _Given(criterion.matcher(copy.deepcopy(model)(images), targets))
    calls: list[int] = []
    pointwise = products._pointwise

    def counted(*arguments):
        calls.append(1)
        return pointwise(*arguments)

    monkeypatch.setattr(products, "_pointwise", counted)
    found: dict[bool, tuple[Tensor, Tensor]] = {}
    for lacks_mkl in (True, False):
        monkeypatch.setattr(products, "_lacks_mkl", lambda lacks_mkl=lacks_mkl: lacks_mkl)
        found[lacks_mkl] = _step(copy.deepcopy(model), criterion, images, targets)
    assert len(calls) > 20
    truth = _step(exact, criterion, images.double(), targets)
    torch.testing.assert_close(found[True][0], truth[0], rtol=1e-4, atol=1e-6)
    # a ReLU that rounding decides otherwise shows in gradients, with torch's products as with oneDNN's
    errors = [float((found[lacks_mkl][1] - truth[1]).norm() / truth[1].norm()) for lacks_mkl in (True, False)]
    assert errors[0] <= 4 * errors[1] + 2e-2
