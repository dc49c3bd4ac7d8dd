"""The JSON files beside the weights of transformers' MaskFormer, read and written without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskformer_ext.config import Config, ModelConfig, to_dict
from maskformer_ext.config.load import config_from_dict
from maskformer_ext.data.classes import palette
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, visible
from maskformer_ext.files import read_json, reading, write_json

CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"

_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_SWINS = {
    "swin_tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
    "swin_small": (96, [2, 2, 18, 2], [3, 6, 12, 24], 7),
    "swin_base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 12),
    "swin_large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
}
_RESNETS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}
_NORM_GROUPS = 32  # of the group norms, fixed there
# What transformers' MaskFormer has no counterpart of: the only value that can be written.
_ONLY = {
    "architecture": "maskformer",
    "pixel_decoder": "fpn",
    "query_input": False,
    "masked_attention": False,
    "mask_position": False,
    "box_head": False,
    "decoder_memory": "backbone",
}


def read_transformers_config(folder: Path, model: ModelConfig) -> tuple[Config, DatasetInfo]:
    """Read ``config.json`` and, where there is one, ``preprocessor_config.json``.

    Args:
        folder: where they lie; without ``config.json`` everything keeps its default.
        model: the sizes that the weights tell.

    Returns:
        The configuration, with what weights do not tell filled in, and the classes. All are stuff: transformers' files
        do not say which are things.

    Raises:
        UserError: if a file is no JSON object, or of another model.
    """
    values = _read_object(folder / CONFIG_FILE)
    if values and values.get("model_type") != "maskformer":
        raise UserError(f"{folder / CONFIG_FILE}: model_type must be maskformer, got {values.get('model_type')!r:.40}")
    decoder, backbone = (_object(values, key, folder / CONFIG_FILE) for key in ("decoder_config", "backbone_config"))
    config = Config(name=folder.name, model=model)
    model.num_heads = decoder.get("decoder_attention_heads", model.num_heads)
    model.dropout = decoder.get("dropout", model.dropout)
    model.drop_path = backbone.get("drop_path_rate", model.drop_path)
    criterion = config.criterion
    criterion.class_weight = values.get("cross_entropy_weight", criterion.class_weight)
    criterion.mask_weight = values.get("mask_weight", criterion.mask_weight)
    criterion.dice_weight = values.get("dice_weight", criterion.dice_weight)
    criterion.no_object_weight = values.get("no_object_weight", criterion.no_object_weight)
    _read_processor(folder, config)
    assert model.num_classes is not None
    labels = _object(values, "id2label", folder / CONFIG_FILE)
    names = {str(key): name for key, name in labels.items() if isinstance(name, str)}
    config = config_from_dict(to_dict(config), str(folder / CONFIG_FILE))  # checks all values
    classes = [names.get(str(i), f"class {i}") for i in range(model.num_classes)]
    return config, named_classes(folder.name, [visible(name) for name in classes])


def named_classes(name: str, classes: list[str]) -> DatasetInfo:
    """Describe classes of which the names alone are known."""
    return DatasetInfo(name=name, classes=tuple(classes), colors=palette(len(classes)))


def write_transformers_config(folder: Path, config: Config, info: DatasetInfo) -> None:
    """Write ``config.json`` and ``preprocessor_config.json``; the arguments must have passed `check_writable`."""
    model = config.model
    values = {
        "architectures": ["MaskFormerForInstanceSegmentation"],
        "model_type": "maskformer",
        "backbone_config": _backbone(model),
        "decoder_config": {
            "model_type": "detr",
            "d_model": model.hidden_dim,
            "num_queries": model.num_queries,
            "decoder_layers": model.decoder_layers,
            "decoder_attention_heads": model.num_heads,
            "decoder_ffn_dim": model.feedforward_dim,
            "encoder_attention_heads": model.num_heads,
            "encoder_ffn_dim": model.feedforward_dim,
            "dropout": model.dropout,
            "attention_dropout": model.dropout,
            "activation_dropout": model.dropout,
        },
        "fpn_feature_size": model.pixel_decoder_dim,
        "mask_feature_size": model.mask_dim,
        "cross_entropy_weight": config.criterion.class_weight,
        "mask_weight": config.criterion.mask_weight,
        "dice_weight": config.criterion.dice_weight,
        "no_object_weight": config.criterion.no_object_weight,
        "id2label": {str(index): name for index, name in enumerate(info.classes)},
        "label2id": {name: index for index, name in enumerate(info.classes)},
        "torch_dtype": "float32",
    }
    inference = config.inference
    processor = {
        "image_processor_type": "MaskFormerImageProcessor",
        "do_resize": inference.min_size > 0,
        "size": {"shortest_edge": inference.min_size or 800, "longest_edge": inference.max_size},
        "size_divisor": model.size_divisibility,
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in model.pixel_mean],
        "image_std": [value / 255 for value in model.pixel_std],
        "ignore_index": info.ignore_label,
        "do_reduce_labels": False,
    }
    for name, content in ((CONFIG_FILE, values), (PROCESSOR_FILE, processor)):
        write_json(folder / name, content)


def check_writable(model: ModelConfig) -> None:
    """Raise `UserError`, naming the setting, if transformers' MaskFormer cannot express a model."""
    problem = "cannot be written for transformers, whose MaskFormer"
    for key, only in _ONLY.items():
        if getattr(model, key) != only:
            raise UserError(f"model.{key}={getattr(model, key)} {problem} knows {only} only")
    if model.backbone not in _SWINS | _RESNETS:
        raise UserError(f"model.backbone={model.backbone} {problem} takes {', '.join(_SWINS | _RESNETS)}")
    if model.decoder_feature not in (-1, 3):
        raise UserError(f"model.decoder_feature={model.decoder_feature} {problem} attends to the last level only")
    if model.pixel_decoder_dim % _NORM_GROUPS:
        raise UserError(
            f"model.pixel_decoder_dim={model.pixel_decoder_dim} {problem} needs a multiple of {_NORM_GROUPS}"
        )
    channels = _SWINS[model.backbone][0] * 8 if model.backbone in _SWINS else 2048
    if model.hidden_dim == channels:
        raise UserError(
            f"model.hidden_dim={model.hidden_dim} {problem} has no input_projection at the backbone's width"
        )


def _backbone(model: ModelConfig) -> dict[str, Any]:
    if model.backbone in _RESNETS:
        return {
            "model_type": "resnet",
            "depths": _RESNETS[model.backbone],
            "embedding_size": 64,
            "hidden_sizes": [256, 512, 1024, 2048],
            "layer_type": "bottleneck",
            "out_features": _STAGES,
        }
    dim, depths, heads, window = _SWINS[model.backbone]
    return {
        "model_type": "swin",
        "embed_dim": dim,
        "depths": depths,
        "num_heads": heads,
        "window_size": window,
        "image_size": 32 * window,
        "drop_path_rate": model.drop_path,
        "out_features": _STAGES,
    }


def _read_processor(folder: Path, config: Config) -> None:
    file = folder / PROCESSOR_FILE
    values = _read_object(file)
    for key in ("mean", "std"):
        if f"image_{key}" in values:
            shares = values[f"image_{key}"]
            if not (isinstance(shares, list) and len(shares) == 3 and all(isinstance(v, int | float) for v in shares)):
                raise UserError(f"{file}: image_{key} must be three numbers, got {shares!r:.40}")
            with reading(file, "a processor's configuration"):
                setattr(config.model, f"pixel_{key}", [round(255.0 * value, 4) for value in shares])
    for key in ("size_divisibility", "size_divisor"):  # the first is what processors of before 2023 wrote
        config.model.size_divisibility = values.get(key, config.model.size_divisibility)
    size = values.get("size")
    if values.get("do_resize", True) and size is not None:
        longest = values.get("max_size", config.inference.max_size)
        shortest = size.get("shortest_edge") if isinstance(size, dict) else size
        if shortest:
            config.inference.min_size = shortest
            config.inference.max_size = size.get("longest_edge", longest) if isinstance(size, dict) else longest


def _object(values: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    """Return what lies below a key, {} where there is nothing."""
    value = values.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{file}: {key} must be a JSON object, got {value!r:.40}")
    return value


def _read_object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    values = read_json(file, "a configuration of transformers")
    if not isinstance(values, dict):
        raise UserError(f"{file} must hold a JSON object, got {type(values).__name__}")
    return values
