"""Small random EoMT models of transformers, and one step of each, for the tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers")

KINDS = tuple(kind for kind in ("Eomt", "EomtDinov3") if hasattr(transformers, f"{kind}Config"))
if not KINDS:
    pytest.skip("this version of transformers has no EoMT", allow_module_level=True)
CLASSES, QUERIES, SIZE = 5, 7, (64, 64)


def make_model(kind: str = "Eomt", *, shares: tuple[float, float] = (1.0, 1.0), **options: Any) -> Any:
    """Return a small model in training mode with two blocks that see queries.

    Args:
        kind: the first part of the classes' names.
        shares: in each of those blocks, the share of queries that is masked.
        options: of the configuration.
    """
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    if kind == "EomtDinov3":
        sizes["intermediate_size"] = 64
    sizes |= {"num_blocks": 2, "num_queries": QUERIES, "num_register_tokens": 2, "train_num_points": 96}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, "num_labels": CLASSES, **options})
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}ForUniversalSegmentation")(config).train()
    torch.nn.init.normal_(model.query.weight)  # alike queries would let rounding decide the assignment
    with torch.no_grad():
        model.attn_mask_probs.copy_(torch.tensor(shares))
    return model


def make_labels(counts: tuple[int, ...] = (3, 0, 6)) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return segment maps with void, the same as masks, and class labels."""
    generator = torch.Generator().manual_seed(3)
    maps, masks, labels = [], [], []
    for count in counts:
        blocks = torch.randint(-1, max(count, 1), (8, 8), generator=generator)
        owner = (blocks if count else torch.full_like(blocks, -1)).repeat_interleave(8, 0).repeat_interleave(8, 1).int()
        maps.append(owner)
        masks.append((owner == torch.arange(count).view(-1, 1, 1)).float())
        labels.append(torch.randint(CLASSES, (count,), generator=generator))
    return maps, masks, labels


def make_pixels(images: int = 3) -> Tensor:
    """Return images."""
    return torch.randn(images, 3, *SIZE, generator=torch.Generator().manual_seed(2))


class Step(NamedTuple):
    """What one step gave: the losses of each layer, gradients, the output, and the state of the random numbers."""

    losses: list[dict[str, Tensor]]
    gradients: dict[str, Tensor]
    output: Any
    state: Tensor


def run_step(model: Any, mask_labels: Any, class_labels: Any, pixels: Tensor | None = None, **arguments: Any) -> Step:
    """Run forward and backward from seed 7."""
    losses: list[dict[str, Tensor]] = []
    hook = model.criterion.register_forward_hook(
        lambda _module, _arguments, result: losses.append({k: v.detach().clone() for k, v in result.items()})
    )
    model.zero_grad()
    pixels = make_pixels(len(class_labels)) if pixels is None else pixels
    torch.manual_seed(7)
    output = model(pixel_values=pixels, mask_labels=mask_labels, class_labels=class_labels, **arguments)
    state = torch.get_rng_state()
    if output.loss.requires_grad:
        output.loss.backward()
    hook.remove()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Step(losses, gradients, output, state)


def assert_same(ours: Step, theirs: Step, tolerance: float = 1e-6) -> None:
    """Check losses, gradients and random numbers; gradients within ten times the tolerance."""
    assert len(ours.losses) == len(theirs.losses)
    for mine, other in zip(ours.losses, theirs.losses, strict=True):
        assert list(mine) == list(other)
        for name, loss in other.items():
            assert mine[name].shape == loss.shape, name
            assert (mine[name] - loss).abs().max() <= tolerance * max(1.0, loss.abs().max().item()), name
    assert torch.allclose(ours.output.loss, theirs.output.loss, rtol=tolerance, atol=0)
    assert ours.gradients.keys() == theirs.gradients.keys()
    largest = max((gradient.abs().max() for gradient in theirs.gradients.values()), default=torch.zeros(()))
    for name, gradient in theirs.gradients.items():
        assert (ours.gradients[name] - gradient).abs().max() <= 10 * tolerance * largest, name
    assert torch.equal(ours.state, theirs.state)
