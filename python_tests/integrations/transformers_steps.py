"""A training step of a model of transformers, before and after `accelerate`, to compare all that it leaves behind."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

CLASSES, SIZE = 5, (64, 96)


class Step(NamedTuple):
    """What a step leaves: losses by name with the total, gradients by name, the output, the random state."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    output: Any
    state: Tensor


def swin_config() -> Any:
    """Return a backbone that runs in milliseconds."""
    import transformers

    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, drop_path_rate=0.0
    )
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    return backbone


def make_labels(counts=(3, 0, 6), size=SIZE) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Make segment maps with void, the same as masks, and class labels."""
    generator = torch.Generator().manual_seed(3)
    blocks = [torch.randint(-1, max(n, 1), (8, 12), generator=generator) for n in counts]
    blocks = [block if n else torch.full_like(block, -1) for block, n in zip(blocks, counts, strict=True)]
    maps = [torch.nn.functional.interpolate(b[None, None].float(), size)[0, 0].int() for b in blocks]
    masks = [(one == torch.arange(n).view(-1, 1, 1)).float() for one, n in zip(maps, counts, strict=True)]
    return maps, masks, [torch.randint(CLASSES, (n,), generator=generator) for n in counts]


def run_step(
    model: Any, mask_labels: Any, class_labels: Any, pixels: Tensor, *, call: Any = None, seed: int = 7, **inputs: Any
) -> Step:
    """Run one step from a seed, forward through `call` where the model is not called itself."""
    losses: dict[str, Tensor] = {}
    hook = model.criterion.register_forward_hook(
        lambda _module, _arguments, result: losses.update({k: v.detach().clone() for k, v in result.items()})
    )
    model.zero_grad()
    torch.manual_seed(seed)
    output = (model if call is None else call)(
        pixel_values=pixels, mask_labels=mask_labels, class_labels=class_labels, **inputs
    )
    state = torch.get_rng_state()
    output.loss.sum().backward()
    hook.remove()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Step({**losses, "total": output.loss.detach()}, gradients, output, state)


def assert_same_step(ours: Step, theirs: Step, tolerance: float = 1e-6) -> None:
    """Check losses and their order within a tolerance, gradients within ten times it, and the random state."""
    assert list(ours.losses) == list(theirs.losses)
    for key, loss in theirs.losses.items():
        assert ours.losses[key].shape == loss.shape, key
        bound = tolerance * max(1.0, loss.abs().max().item())
        assert (ours.losses[key] - loss).abs().max() <= bound, f"{key}: {ours.losses[key]} beside {loss}"
    largest = max(gradient.abs().max() for gradient in theirs.gradients.values())
    for name, gradient in theirs.gradients.items():
        assert (ours.gradients.get(name, torch.zeros(())) - gradient).abs().max() <= 10 * tolerance * largest, name
    assert torch.equal(ours.state, theirs.state)
