"""Training that starts from weights trains their network: it takes the place of the one that a recipe describes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from maskformer_ext.checkpoints.pretrained import Weights, read_weights_of_any_layout
from maskformer_ext.checkpoints.weight_files import find_weights
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.config.values import RATE
from maskformer_ext.errors import UserError

# What shapes show: of every architecture, and of those with queries.
_SHAPED = ("architecture", "backbone", "pixel_decoder", "pixel_decoder_dim", "mask_dim", "mask_position")
_OF_QUERIES = ("hidden_dim", "feedforward_dim", "decoder_layers", "query_input")
_OF_CLASSES = ("num_queries", "box_head")  # where queries are not classes
# What a run may choose for itself, whatever the weights.
_FREE = {
    *("num_classes", "backbone_weights", "freeze_batch_norm", "query_init_std"),
    *("dropout", "drop_path", "deep_supervision"),
}


def adopt_network(config: Config) -> tuple[Config, str]:
    """Compare the network of a configuration with that of the weights it starts from, and take theirs if they differ.

    Args:
        config: with ``init_from``. The keys in ``init_keep`` keep their values.

    Returns:
        The configuration. Where networks differ, its ``model`` section is what the weights and the files beside them
        say. The learning rate is then not above that which they were trained with. And a sentence that says so, empty
        where the networks agree.

    Raises:
        UserError: if the weights cannot be read, or a key in ``init_keep`` contradicts them.
    """
    assert config.init_from is not None
    weights = read_weights_of_any_layout(find_weights(config.init_from), backbone=config.model.backbone)
    theirs, ours = weights.config.model, config.model
    differing = [key for key in _told(weights) if getattr(theirs, key) != getattr(ours, key)]
    if not differing:
        return config, ""
    for key in differing:
        if f"model.{key}" in config.init_keep:
            raise UserError(
                f"{weights.file} belongs to a model with model.{key}={getattr(theirs, key)}, but the configuration "
                f"says {getattr(ours, key)}: leave the key out, since init_from brings its own network"
            )
    kept: dict[str, Any] = {
        field.name: getattr(ours, field.name)
        for field in fields(ModelConfig)
        if f"model.{field.name}" in config.init_keep
    }
    model = replace(theirs, **kept, num_classes=ours.num_classes, backbone_weights=None)
    rate = config.optimizer.lr
    if RATE not in config.init_keep:
        rate = min(rate, weights.config.optimizer.lr)
    adopted = replace(config, model=model, optimizer=replace(config.optimizer, lr=rate))
    return adopted, _describe(model, config.init_from, rate)


def _told(weights: Weights) -> tuple[str, ...]:
    """Return the keys that weights, or the files beside them, know for sure."""
    model = weights.config.model
    if weights.complete:
        return tuple(field.name for field in fields(ModelConfig) if field.name not in _FREE)
    told = list(_SHAPED)
    if model.pixel_decoder == "transformer_encoder":
        told.append("encoder_layers")
    if model.architecture != "per_pixel_baseline":
        told += _OF_QUERIES
    if model.architecture == "maskformer":
        told += _OF_CLASSES
    if weights.info is not None:
        told.append("num_heads")  # weights fit any number, but work with theirs only
    return tuple(told)


def _describe(model: ModelConfig, source: str | Path, rate: float) -> str:
    queries = f", {model.num_queries} queries" if model.architecture == "maskformer" else ""
    return (
        f"the network comes with init_from={source}, in place of the recipe's: {model.architecture} with "
        f"{model.backbone}{queries}; optimizer.lr={rate:g}"
    )
