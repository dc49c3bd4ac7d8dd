"""The detection models of transformers, as small as they come, and labels for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

CLASSES, QUERIES, SIZE = 5, 12, 64
TOKENS = torch.tensor([[101, 5, 6, 1012, 7, 1012, 8, 9, 1012, 102]] * 3)
"""Three classes of one or two words, for models that read text."""

_ATTENTION: dict[str, Any] = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
_DETR: dict[str, Any] = {
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": QUERIES, "num_labels": CLASSES},
    **{"auxiliary_loss": True, "use_timm_backbone": False, "use_pretrained_backbone": False},
    **_ATTENTION,
}
_SEGMENTATION: dict[str, Any] = {**_DETR, "d_model": 64, "encoder_attention_heads": 8}
_REAL_TIME: dict[str, Any] = {
    **{"d_model": 32, "encoder_hidden_dim": 32, "encoder_in_channels": [16, 16, 32], "hidden_expansion": 0.5},
    **{"decoder_in_channels": [32, 32, 32], "decoder_layers": 3, "num_queries": 20, "num_denoising": 10},
    **{"num_labels": CLASSES, "auxiliary_loss": True},
    **_ATTENTION,
}
_GROUPS: dict[str, Any] = {
    **{"d_model": 32, "decoder_layers": 3, "decoder_ffn_dim": 32, "num_queries": 10, "group_detr": 3},
    **{"decoder_self_attention_heads": 4, "decoder_cross_attention_heads": 4, "c2f_num_blocks": 1},
    **{"num_labels": CLASSES},
}
_LAYOUT = ("d_model", "encoder_hidden_dim", "decoder_in_channels", "decoder_layers", "num_queries", *_ATTENTION)
_OMDET = (
    *("encoder_hidden_dim", "decoder_hidden_dim", "class_embed_dim", "encoder_dim_feedforward"),
    *("decoder_dim_feedforward", "text_projection_in_dim", "text_projection_out_dim"),
)
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "embedding_size": 8}


def _config(name: str, **options: Any) -> Any:
    return getattr(transformers, name)(**options)


def _model(name: str, backbone: Any, options: dict[str, Any]) -> nn.Module:
    config = _config(name.partition("For")[0] + "Config", backbone_config=backbone, **options)
    return getattr(transformers, name)(config)


def _resnet(*stages: int) -> Any:
    features = [f"stage{stage}" for stage in stages]
    return _config("ResNetConfig", **_STAGES, layer_type="basic", out_features=features)


def _real_time_resnet() -> Any:
    return _config("RTDetrResNetConfig", **_STAGES, layer_type="basic", out_features=["stage2", "stage3", "stage4"])


def _hgnet() -> Any:
    return _config(
        "HGNetV2Config",
        **_STAGES,
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8] * 4,
        stage_out_channels=_STAGES["hidden_sizes"],
        stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[2] * 4,
        stage_downsample=[False, True, True, True],
        stage_light_block=[False] * 4,
        stage_kernel_size=[3] * 4,
        out_features=["stage2", "stage3", "stage4"],
    )


def _vit(config: str, windows: int, **options: Any) -> Any:
    return _config(
        config,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=16,
        out_indices=[1, 2],
        num_windows=windows,
        **options,
    )


def _swin() -> Any:
    return _config(
        "SwinConfig",
        image_size=SIZE,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )


def _grounding(name: str) -> nn.Module:
    text: dict[str, Any] = {
        **{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 32, "vocab_size": 1100},
    }
    options = {name: _DETR[name] for name in ("d_model", "encoder_layers", "decoder_layers", "num_queries")}
    options |= {"text_config": text, "num_feature_levels": 3, "max_text_len": 20, "auxiliary_loss": True, **_ATTENTION}
    return _model(name, _swin(), options)


def _yolos() -> nn.Module:
    config = _config(
        "YolosConfig",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        image_size=[SIZE, SIZE],
        num_detection_tokens=QUERIES,
        num_labels=CLASSES,
    )
    return transformers.YolosForObjectDetection(config)


def _dab() -> nn.Module:
    options = {("hidden_size" if name == "d_model" else name): value for name, value in _DETR.items()}
    return _model("DabDetrForObjectDetection", _resnet(4), options)


def _group_detr(name: str) -> nn.Module:
    return _model(name, _vit("RfDetrDinov2Config", windows=2), _GROUPS)


def _layout(name: str) -> nn.Module:
    return _model(name, _hgnet(), {key: value for key, value in _REAL_TIME.items() if key in _LAYOUT})


def _omdet() -> nn.Module:
    text = {"model_type": "clip_text_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 32, "vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
    channels = [16, 32, 64]
    options: dict[str, Any] = {name: 32 for name in _OMDET}
    options |= {"decoder_num_layers": 2, "num_queries": 10, "use_timm_backbone": False}
    options |= {"backbone_feat_channels": channels, "encoder_in_channels": channels}
    return _model(
        "OmDetTurboForObjectDetection", _swin(), options | {"text_config": text, "vision_features_channels": [32] * 3}
    )


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "DetrForObjectDetection": lambda: _model("DetrForObjectDetection", _resnet(4), _DETR),
    "DetrForSegmentation": lambda: _model("DetrForSegmentation", _resnet(1, 2, 3, 4), _SEGMENTATION),
    "ConditionalDetrForObjectDetection": lambda: _model("ConditionalDetrForObjectDetection", _resnet(4), _DETR),
    "ConditionalDetrForSegmentation": lambda: _model(
        "ConditionalDetrForSegmentation", _resnet(1, 2, 3, 4), _SEGMENTATION
    ),
    "DabDetrForObjectDetection": _dab,
    "DeformableDetrForObjectDetection": lambda: _model(
        "DeformableDetrForObjectDetection", _resnet(2, 3, 4), {**_DETR, "num_feature_levels": 3}
    ),
    "TableTransformerForObjectDetection": lambda: _model("TableTransformerForObjectDetection", _resnet(4), _DETR),
    "YolosForObjectDetection": _yolos,
    "RTDetrForObjectDetection": lambda: _model("RTDetrForObjectDetection", _real_time_resnet(), _REAL_TIME),
    "RTDetrV2ForObjectDetection": lambda: _model("RTDetrV2ForObjectDetection", _real_time_resnet(), _REAL_TIME),
    "DFineForObjectDetection": lambda: _model("DFineForObjectDetection", _hgnet(), _REAL_TIME),
    "Deimv2ForObjectDetection": lambda: _model("Deimv2ForObjectDetection", _hgnet(), _REAL_TIME),
    "LwDetrForObjectDetection": lambda: _model(
        "LwDetrForObjectDetection",
        _vit("LwDetrViTConfig", windows=4, pretrain_image_size=SIZE, window_block_indices=[0]),
        {**_GROUPS, "projector_scale_factors": [1.0]},
    ),
    "RfDetrForObjectDetection": lambda: _group_detr("RfDetrForObjectDetection"),
    "RfDetrForInstanceSegmentation": lambda: _group_detr("RfDetrForInstanceSegmentation"),
    "GroundingDinoForObjectDetection": lambda: _grounding("GroundingDinoForObjectDetection"),
    "MMGroundingDinoForObjectDetection": lambda: _grounding("MMGroundingDinoForObjectDetection"),
}

WITHOUT_LOSS: dict[str, Callable[[], nn.Module]] = {
    "OmDetTurboForObjectDetection": _omdet,
    "PPDocLayoutV3ForObjectDetection": lambda: _layout("PPDocLayoutV3ForObjectDetection"),
    "PPDocLayoutV4ForObjectDetection": lambda: _layout("PPDocLayoutV4ForObjectDetection"),
}
"""Models that transformers cannot train."""


def build(name: str) -> nn.Module:
    """Make a model whose queries differ; as transformers draws them, rounding would decide the assignment.

    Its batch norms use fixed statistics. Channels of these small maps are constant in a batch, and its statistics would
    amplify the rounding of their gradients until nothing else is left.
    """
    torch.manual_seed(1)
    model = BUILDERS[name]().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def labels(name: str, counts: tuple[int, ...] = (3, 0, 6)) -> list[dict[str, Tensor]]:
    """Return boxes and classes, and masks where a model learns them, for each image."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for count in counts:
        image = {
            "class_labels": torch.randint(0, 3, (count,), generator=generator),
            "boxes": torch.rand(count, 4, generator=generator) * 0.3 + 0.2,
        }
        if "Segmentation" in name:
            image["masks"] = torch.rand(count, SIZE, SIZE, generator=generator) < 0.3
        made.append(image)
    return made


def inputs(name: str, images: int = 3) -> dict[str, Tensor]:
    """Return what a model is called with, beside the labels."""
    pixels = torch.rand(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    return {"pixel_values": pixels, **({"input_ids": TOKENS[:images]} if "GroundingDino" in name else {})}
