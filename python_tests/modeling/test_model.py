"""The network at small sizes: any backbone, any image size, what each setting changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import tiny_config
from torch import nn
from typed import expect, present

from maskformer_ext.checkpoints.models import MaskFormer, build_model
from maskformer_ext.config import CriterionConfig, OptimizerConfig
from maskformer_ext.engine.optimizer import parameter_groups
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.per_pixel import PerPixelCriterion
from maskformer_ext.modeling.pixel_decoder import FPNPixelDecoder
from maskformer_ext.modeling.position_encoding import sine_position_encoding
from maskformer_ext.ops.targets import MaskTargets, SegmentTargets

SMALL = tiny_config(
    5, num_queries=6, pixel_decoder_dim=32, mask_dim=16, num_heads=4, encoder_layers=1, decoder_layers=2, dropout=0.0
)


def _targets(height: int, width: int) -> SegmentTargets:
    labels = torch.full((2, height, width), 255)
    labels[:, : height // 3] = 3
    labels[:, height // 3 : height // 2, : width // 2] = 1
    labels[1:, -height // 4 :] = 4
    return SegmentTargets.from_label_map(labels)


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 47)])
@pytest.mark.parametrize("pixel_decoder", ["fpn", "transformer_encoder"])
@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "resnet50", "swin_tiny", "timm:resnet50", "convnext_atto", "test_efficientnet", "test_vit"],
)
def test_every_backbone_takes_every_size(backbone: str, pixel_decoder: str, size: tuple[int, int]) -> None:
    model = build_model(SMALL, backbone=backbone, pixel_decoder=pixel_decoder).eval()
    with torch.no_grad():
        out = model(torch.randn(2, 3, *size))
    assert out.class_logits.shape == (2, 2, 6, 6)
    assert out.mask_embed.shape == (2, 2, 6, 16)
    expected = [math.ceil(length / 4) for length in size]
    if backbone != "convnext_atto":  # drops what is no whole patch
        assert list(out.mask_features.shape) == [2, 16, *expected]
    assert out.mask_logits().shape == (2, 6, *out.mask_features.shape[-2:])
    torch.testing.assert_close(out.mask_logits(0), torch.einsum("bqc,bchw->bqhw", out.mask_embed[0], out.mask_features))


@pytest.mark.parametrize("additions", [False, True], ids=["as the paper", "with additions"])
@pytest.mark.parametrize("architecture", ["maskformer", "per_pixel_baseline", "per_pixel_baseline_plus"])
def test_every_parameter_learns(architecture: str, additions: bool) -> None:
    options: dict[str, Any] = dict.fromkeys(("query_input", "mask_position", "masked_attention"), additions)
    options["decoder_memory"] = "pixel_decoder" if additions else "backbone"
    model = build_model(SMALL, architecture=architecture, **options).train()
    criterion = build_criterion(model, CriterionConfig(mask_weight=5.0, ignore_void=True))
    total, _, stats = criterion(model(torch.randn(2, 3, 64, 96)), _targets(64, 96))
    total.backward()
    assert total.isfinite() and set(stats) == {"nonfinite_queries", "invalid_targets"}
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert isinstance(criterion, MaskFormerCriterion if architecture == "maskformer" else PerPixelCriterion)


@pytest.mark.parametrize("backbone", ["test_vit", "eva02_tiny_patch14_224"])
def test_a_plain_vision_transformer_learns_through_its_pyramid(backbone: str) -> None:
    model = build_model(SMALL, backbone=backbone).train()
    assert model.backbone.channels == (32, 32, 32, 32)  # pixel_decoder_dim
    features = model.backbone(torch.randn(1, 3, 50, 70))
    assert [tuple(f.shape[1:]) for f in features] == [(32, 13, 18), (32, 7, 9), (32, 4, 5), (32, 2, 3)]
    torch.stack([f.square().mean() for f in features]).sum().backward()
    assert [name for name, p in model.backbone.named_parameters() if p.grad is None] == []
    groups = parameter_groups(model, OptimizerConfig(weight_decay=0.1))
    without_decay = {name for group in groups if group["weight_decay"] == 0 for name, _ in group["params"]}
    assert {"backbone.net.pos_embed", "backbone.levels.0.1.weight"} <= without_decay


def test_without_deep_supervision_only_the_last_layer_is_predicted() -> None:
    model = build_model(SMALL).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        every = model(x)
        model.config.deep_supervision = False
        last = model(x)
    assert len(last.class_logits) == 1
    torch.testing.assert_close(last.class_logits[0], every.class_logits[-1])


def test_masked_attention_restricts_layers_after_the_first_to_the_predicted_mask() -> None:
    model = expect(MaskFormer, build_model(SMALL, masked_attention=True, decoder_feature=1).eval())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        masked = model(x)
        model.config.masked_attention = False
        free = model(x)
        torch.testing.assert_close(masked.class_logits[0], free.class_logits[0])
        assert not torch.allclose(masked.class_logits[1], free.class_logits[1])
        model.config.masked_attention = True
        last = expect(nn.Linear, model.mask_head.layers[-1])
        last.weight.zero_()
        last.bias.zero_()  # every mask is empty: attention to everything, no NaN
        torch.testing.assert_close(model(x).class_logits, free.class_logits)


def test_mask_position_tells_equal_places_apart() -> None:
    constant = [torch.ones(1, 4, 24, 24), torch.ones(1, 4, 12, 12)]

    def difference(mask_position: bool) -> float:
        with torch.no_grad():
            features, _ = FPNPixelDecoder([4, 4], 32, 8, mask_position=mask_position)(constant)
        return (features[0, :, 8, 8] - features[0, :, 8, 14]).norm().item()

    assert difference(False) == pytest.approx(0, abs=1e-5)
    assert difference(True) > 0.1


def test_decoder_feature_chooses_the_memory() -> None:
    model = expect(MaskFormer, build_model(SMALL, decoder_feature=1))
    assert model.transformer_decoder.input_proj.in_channels == model.backbone.channels[1]
    merged = expect(
        MaskFormer, build_model(SMALL, decoder_feature=1, decoder_memory="pixel_decoder", pixel_decoder_dim=48)
    )
    assert merged.transformer_decoder.input_proj.in_channels == 48
    assert merged.pixel_level(torch.randn(1, 3, 64, 96))[1].shape == (1, 48, 8, 12)
    with pytest.raises(UserError, match=r"decoder_feature must be from -4 to 3, got 4"):
        build_model(SMALL, decoder_feature=4)


def test_channels_last_changes_nothing_but_the_layout() -> None:
    model = build_model(SMALL).eval()
    x = torch.randn(2, 3, 64, 96)
    criterion, targets = MaskFormerCriterion(5), _targets(64, 96)
    expected, _, _ = criterion(model(x), targets)
    model = model.to(memory_format=torch.channels_last)
    out = model(x.to(memory_format=torch.channels_last))
    assert out.mask_features.is_contiguous(memory_format=torch.channels_last)
    total, _, _ = criterion(out, targets)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=0)


def test_frozen_batch_norm_ignores_the_batch_and_keeps_its_names() -> None:
    model = build_model(SMALL).eval()
    frozen = build_model(SMALL, freeze_batch_norm=True)
    frozen.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    with torch.no_grad():
        expected, got = model(x), frozen.train()(x)
    torch.testing.assert_close(got.mask_features, expected.mask_features, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    assert not any("bn" in name for name, _ in frozen.named_parameters())


def test_query_embeddings_start_with_the_given_spread() -> None:
    model = build_model(SMALL, num_queries=500, query_init_std=2.0)
    wide = model.get_parameter("transformer_decoder.query_embed.weight")
    assert wide.std().item() == pytest.approx(2.0, rel=0.05)


def test_dropout_acts_in_training_only() -> None:
    model = build_model(SMALL, backbone="swin_tiny", dropout=0.5, drop_path=0.5)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(model(x).class_logits, model(x).class_logits, rtol=0, atol=0)
        model.train()
        assert not torch.equal(model(x).class_logits, model(x).class_logits)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"backbone": "resnet5"}, r"model\.backbone must be .* got 'resnet5'"),
        ({"backbone": "levit_128s"}, r"one feature map at each stride"),
        ({"backbone": "mixer_s32_224"}, r"takes images of one size only"),
        ({"num_classes": None}, r"model\.num_classes must be set"),
        ({"hidden_dim": 30}, r"model\.hidden_dim must be a multiple of 4"),
        ({"pixel_decoder": "unet"}, r"model\.pixel_decoder must be one of fpn, transformer_encoder, got 'unet'"),
        ({"architecture": "mask2former"}, r"model\.architecture must be one of .* got 'mask2former'"),
        ({"num_queries": 0}, r"model\.num_queries must be at least 1, got 0"),
        ({"querys": 3}, r"unknown model setting 'querys'"),
    ],
)
def test_impossible_settings_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(SMALL, **overrides)


def test_a_recipe_knows_its_classes() -> None:
    model = build_model("digits", num_queries=7)
    assert model.config.num_queries == 7
    assert model.num_classes >= 14


def test_a_backbone_is_pretrained_only_when_asked_for() -> None:
    model = build_model(SMALL, backbone_weights="no such file.pth")
    assert model.config.backbone_weights == "no such file.pth"
    with pytest.raises(UserError, match=r"no such file\.pth does not exist"):
        build_model(SMALL, backbone_weights="no such file.pth", pretrained_backbone=True)


def test_position_encoding_distinguishes_every_position() -> None:
    encoding = sine_position_encoding(5, 7, 16)[0].flatten(1).T
    assert encoding.shape == (35, 16)
    assert (torch.cdist(encoding, encoding) + torch.eye(35)).min() > 1e-2
    with pytest.raises(ValueError, match="channels must be a multiple of 4, got 6"):
        sine_position_encoding(2, 2, 6)


def test_per_pixel_loss_ignores_void_and_refuses_overlapping_masks() -> None:
    model = build_model(SMALL, architecture="per_pixel_baseline").eval()
    criterion = PerPixelCriterion(5)
    out = model(torch.randn(2, 3, 64, 96))
    void = SegmentTargets.from_label_map(torch.full((2, 64, 96), 255))
    assert criterion(out, void)[0] == 0
    with pytest.raises(TypeError, match="targets must be SegmentTargets, got MaskTargets"):
        criterion(out, MaskTargets.from_masks([torch.ones(1, 64, 96)] * 2, [torch.zeros(1, dtype=torch.int64)] * 2))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["segment map", "masks"])
def test_a_training_step_is_one_graph(form: str) -> None:
    model, criterion = build_model(SMALL).eval(), MaskFormerCriterion(5)
    images, segments = torch.randn(2, 3, 64, 64), _targets(64, 64)
    targets = segments if form == "segment map" else segments.to_masks().with_pairs()

    def step(images, targets):
        return criterion(model(images), targets)

    expected, _, _ = step(images, targets)
    expected.backward()
    gradients = {name: present(p.grad).clone() for name, p in model.named_parameters()}
    model.zero_grad()
    # whether there is one graph does not depend on the code generator, whose compilation would take minutes
    total, _, _ = torch.compile(step, fullgraph=True, backend="aot_eager")(images, targets)
    total.backward()
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=0)
    for name, parameter in model.named_parameters():
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-3 * scale)
