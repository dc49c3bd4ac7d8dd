"""lightly-train's EoMT beside itself after `accelerate`: losses, gradients, random numbers, and a whole training."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.lightly_train import accelerated
from maskformer_ext.integrations.transformers import accelerate, describe, restore

lightly_train = pytest.importorskip("lightly_train")

KINDS = [
    f"{backbone}_eomt_{task}" for backbone in ("dinov2", "dinov3") for task in ("instance", "panoptic", "semantic")
]
OPTIONS: dict[str, Any] = {"num_joint_blocks": 1, "num_queries": 10, "loss_num_points": 64}
OPTIONS |= {"attn_mask_annealing_steps_start": [0], "attn_mask_annealing_steps_end": [2]}


def _module(kind: str, name: str) -> Any:
    return importlib.import_module(f"lightly_train._task_models.{kind}_segmentation.{name}")


def _loss(kind: str) -> Any:
    return _module(kind, "mask_loss").MaskClassificationLoss(
        num_points=64,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
        mask_coefficient=5.0,
        dice_coefficient=4.0,
        class_coefficient=2.0,
        num_labels=4,
        no_object_coefficient=0.2,
    )


def _step(loss: Any, targets: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Any, Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randn(len(targets), 6, 16, 12, generator=generator, requires_grad=True)
    classes = torch.randn(len(targets), 6, 5, generator=generator, requires_grad=True)
    torch.manual_seed(7)
    losses = loss(masks_queries_logits=masks, class_queries_logits=classes, targets=targets)
    state = torch.get_rng_state()
    return losses, torch.autograd.grad(loss.loss_total(losses), (masks, classes)), state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(3, 2), (8, 1), (0, 2)])
@pytest.mark.parametrize("soft", [False, True])
def test_loss_equals_lightly_trains(kind: str, counts: tuple[int, ...], soft: bool) -> None:
    loss = _loss(kind)
    generator = torch.Generator().manual_seed(2)
    owners = [torch.randint(-1, max(count, 1), (32, 24), generator=generator) for count in counts]
    targets = [
        {"masks": owner == torch.arange(count).view(-1, 1, 1), "labels": torch.arange(count) % 4}
        for owner, count in zip(owners, counts, strict=True)
    ]
    if soft:
        targets[1]["masks"] = targets[1]["masks"] * 0.5
    losses, gradients, state = _step(loss, targets)
    accelerate(loss)
    assert [entry.left for entry in describe(loss)] == ["", ""]
    ours, own_gradients, own_state = _step(loss, targets)
    assert list(ours) == list(losses)
    for name, value in losses.items():
        assert ours[name].shape == value.shape
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-6)
    for mine, other in zip(own_gradients, gradients, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * other.abs().max()
    assert torch.equal(own_state, state)
    restore(loss)
    assert _step(loss, targets)[0].keys() == losses.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_scale_block_equals_lightly_trains(kind: str) -> None:
    block = _module(kind, "scale_block").ScaleBlock(8)
    x = torch.randn(2, 8, 5, 4, requires_grad=True)

    def run() -> tuple[Tensor, ...]:
        out = block(x)
        return out, *torch.autograd.grad(out.square().sum(), (x, *block.parameters()))

    theirs = run()
    accelerate(block)
    for mine, other in zip(run(), theirs, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * other.abs().max()


def _write_images(root: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    data: dict[str, Any] = {"classes": {0: "a", 1: "b", 2: "c"}}
    for split in ("train", "val"):
        data[split] = {name: str(root / split / name) for name in ("images", "masks")}
        for folder in data[split].values():
            Path(folder).mkdir(parents=True)
        for number in range(4):
            label = generator.integers(0, 3, (4, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(label).save(root / split / "masks" / f"{number}.png")
            pixels = (label[..., None] * 80 + generator.integers(0, 40, (64, 64, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
    return data


def _train(out: Path, data: dict[str, Any], model: str = "dinov3/_vittest16-eomt", **options: Any) -> None:
    lightly_train.train_semantic_segmentation(
        out=str(out),
        data=data,
        model=model,
        steps=2,
        batch_size=2,
        num_workers=0,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        transform_args={"image_size": (64, 64)},
        model_args=options,
    )


@pytest.mark.timeout(0)
def test_a_whole_training_is_the_same_with_less_work(tmp_path: Path, capfd) -> None:
    data = _write_images(tmp_path)
    _train(tmp_path / "theirs", data, **OPTIONS)
    assert "accelerate replaced" not in capfd.readouterr().err
    with accelerated():
        _train(tmp_path / "ours", data, **OPTIONS)
    assert "MaskClassificationLoss" in capfd.readouterr().err
    weights = [
        torch.load(tmp_path / run / "exported_models" / "exported_last.pt", map_location="cpu", weights_only=False)
        for run in ("theirs", "ours")
    ]
    theirs, ours = (run["train_model"] for run in weights)
    assert ours.keys() == theirs.keys() and weights[0]["model_class_path"] == weights[1]["model_class_path"]
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, rtol=1e-4, atol=1e-5), name
    with pytest.raises(UserError, match="model must be one of"), accelerated():
        _train(tmp_path / "linear", data, model="dinov3/_vittest16-linear")
