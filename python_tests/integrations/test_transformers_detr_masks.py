"""`accelerate` beside the mask head of transformers' DETR."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from maskformer_ext.integrations.transformers import accelerate, describe, restore

transformers = pytest.importorskip("transformers")
modeling = pytest.importorskip("transformers.models.detr.modeling_detr")
if not hasattr(modeling, "DetrFPNFusionStage"):
    pytest.skip("this version of transformers has another mask head", allow_module_level=True)


conditional = pytest.importorskip("transformers.models.conditional_detr.modeling_conditional_detr")
HEADS = {"detr": modeling.DetrMaskHeadSmallConv, "conditional_detr": conditional.ConditionalDetrMaskHeadSmallConv}


def _head(kind: str = "detr") -> Any:
    torch.manual_seed(1)
    return HEADS[kind](40, [24, 20, 12], 128)


def _inputs(images: int = 2, queries: int = 3) -> tuple[Tensor, Tensor, list[Tensor]]:
    torch.manual_seed(2)
    features, attention = torch.randn(images, 32, 4, 5), torch.rand(images, queries, 8, 4, 5)
    levels = [torch.randn(images, channels, 4 * 2**n, 5 * 2**n) for n, channels in enumerate((24, 20, 12), start=1)]
    for tensor in (features, attention, *levels):
        tensor.requires_grad_()
    return features, attention, levels


def _run(head: Any, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    head = head.to(dtype)
    features, attention, levels = _inputs()
    wanted = [features, attention, *levels, *head.parameters()]
    out = head(features.to(dtype), attention.to(dtype), [level.to(dtype) for level in levels])
    return out, *torch.autograd.grad(out.square().sum(), wanted)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_mask_head_equals_transformers(dtype: torch.dtype, kind: str) -> None:
    head = _head(kind)
    theirs = _run(head, dtype)
    accelerate(head)
    largest = max(float(other.abs().max()) for other in theirs[1:])
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    ours = _run(head, dtype)
    assert (ours[0] - theirs[0]).abs().max() <= tolerance * theirs[0].abs().max()
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert (mine - other).abs().max() <= 10 * tolerance * largest
    restore(head)
    assert torch.equal(_run(head, dtype)[0], theirs[0])


def test_mask_head_does_not_repeat_features() -> None:
    head = accelerate(_head())
    shapes = []
    head.fpn_stages[2].fpn_adapter.register_forward_hook(lambda _module, inputs, _out: shapes.append(inputs[0].shape))
    head(*_inputs())
    assert shapes == [(2, 12, 32, 40)]


def test_mask_head_with_a_hook_runs_as_it_is() -> None:
    head = accelerate(_head())
    called = []
    head.conv1.conv.register_forward_hook(lambda *_: called.append(True))
    head(*_inputs())
    assert called


def test_detr_for_segmentation_predicts_the_same() -> None:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    backbone.out_features = stages
    config = transformers.DetrConfig(
        backbone_config=backbone,
        use_pretrained_backbone=False,
        use_timm_backbone=False,
        d_model=128,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_queries=4,
        num_labels=3,
    )
    torch.manual_seed(1)
    model = transformers.DetrForSegmentation(config).eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = model(pixels)
        accelerate(model)
        ours = model(pixels)
    assert [entry.name for entry in describe(model) if not entry.left and "Mask" in entry.name] == [
        "DetrMaskHeadSmallConv"
    ]
    torch.testing.assert_close(ours.pred_masks, theirs.pred_masks, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.logits, theirs.logits)
