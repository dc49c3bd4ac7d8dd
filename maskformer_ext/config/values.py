"""Which values a configuration may have: choices, ranges, lengths. Every other module asks here."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence

from maskformer_ext.config.schema import Config, to_dict
from maskformer_ext.errors import UserError

LAYOUTS = ("native", "hf")
"""How weights may be written: as this package's files, or as transformers'."""

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""What a model on the Hugging Face hub is called: OWNER/NAME."""

WEIGHT_ENDINGS = (".safetensors", ".pth", ".pt", ".pkl", ".bin")
"""Of the files that hold weights."""

PROGRAM_ENDINGS = (".onnx", ".pt2")
"""Of the files that ``export`` writes."""

_TASKS = ("semantic", "instance", "panoptic")

RATE = "optimizer.lr"
"""The one key outside of ``model`` that the network of ``init_from`` changes."""

CHOICES = {
    "model.architecture": ("maskformer", "per_pixel_baseline", "per_pixel_baseline_plus"),
    "model.pixel_decoder": ("fpn", "transformer_encoder"),
    "model.decoder_memory": ("backbone", "pixel_decoder"),
    "criterion.matching": ("bipartite", "box", "fixed"),
    "data.task": _TASKS,
    "data.on_error": ("raise", "skip"),
    "data.check": ("error", "warn", "none"),
    "data.fit": (
        "data.augmentation.min_sizes",
        "data.augmentation.crop_size",
        "inference.min_size",
        "model.num_queries",
    ),
    "schedule.name": ("poly", "step", "cosine"),
    "train.precision": ("fp32", "bf16", "fp16"),
    "inference.tasks": _TASKS,
    "inference.resize": ("scores", "logits"),
    "inference.semantic": ("sum", "argmax"),
    "inference.precision": ("fp32", "bf16"),
}
"""The words that a key may hold, for each key that holds one of a few."""

# The least and the most that a number may be, one by one in lists. The upper ends keep a forged file from asking for
# any amount of memory or time.
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (-(2**63), 2**63 - 1),
    "model.pixel_mean": (-1e6, 1e6),
    "model.pixel_std": (1e-6, 1e6),
    "model.size_divisibility": (0, 4096),
    "model.num_classes": (1, 1_000_000),
    "model.num_queries": (1, 100_000),
    "model.query_init_std": (0, 1e6),
    "model.encoder_layers": (0, 1000),
    "model.pixel_decoder_dim": (1, 65_536),
    "model.mask_dim": (1, 65_536),
    "model.hidden_dim": (1, 65_536),
    "model.num_heads": (1, 1024),
    "model.feedforward_dim": (1, 1_048_576),
    "model.decoder_layers": (1, 1000),
    "model.dropout": (0, 1),
    "model.drop_path": (0, 1),
    "model.decoder_feature": (-4, 3),
    "criterion.class_weight": (-math.inf, 1e6),
    "criterion.mask_weight": (-math.inf, 1e6),
    "criterion.dice_weight": (-math.inf, 1e6),
    "criterion.no_object_weight": (0, 1e6),
    "criterion.alpha": (-math.inf, 1),
    "criterion.gamma": (0, 1e6),
    "criterion.box_weight": (-math.inf, 1e6),
    "criterion.giou_weight": (-math.inf, 1e6),
    "data.augmentation.min_sizes": (1, 65_536),
    "data.augmentation.max_size": (1, 65_536),
    "data.augmentation.crop_size": (1, 65_536),
    "data.num_workers": (0, 4096),
    "data.val_share": (0, 0.9),
    "data.num_train": (1, 100_000_000),
    "data.num_val": (1, 100_000_000),
    "data.image_size": (1, 16_384),
    "optimizer.lr": (0, 1e6),
    "optimizer.backbone_multiplier": (0, 1e6),
    "optimizer.weight_decay": (0, 1e6),
    "optimizer.weight_decay_norm": (0, 1e6),
    "optimizer.weight_decay_embed": (0, 1e6),
    "optimizer.betas": (0, 0.999999),
    "optimizer.eps": (0, 1e6),
    "optimizer.clip_norm": (0, math.inf),
    "schedule.warmup_iters": (0, math.inf),
    "train.max_iters": (0, math.inf),
    "train.batch_size": (1, 1_000_000),
    "train.accumulation_steps": (1, 1_000_000),
    "train.eval_period": (0, math.inf),
    "train.checkpoint_period": (0, math.inf),
    "train.keep_checkpoints": (1, math.inf),
    "train.log_period": (1, math.inf),
    "train.max_bad_steps": (1, math.inf),
    "train.max_minutes": (0, math.inf),
    "inference.min_size": (0, 16_384),
    "inference.max_size": (1, 1_000_000),
    "inference.tta_min_sizes": (1, 16_384),
    "inference.tta_max_size": (1, 1_000_000),
    "inference.top_k": (1, 1_000_000),
    "inference.object_mask_threshold": (-math.inf, 1e6),
    "inference.overlap_threshold": (-math.inf, 1e6),
    "inference.mask_threshold": (0, 1),
    "inference.tile": (0, 65_536),
}

_SMALLEST_TILE = 16  # every tile is a pass of the network

_LENGTHS = {
    "model.pixel_mean": (3,),
    "model.pixel_std": (3,),
    "optimizer.betas": (2,),
    "data.augmentation.crop_size": (0, 2),
    "data.augmentation.zoom_range": (2,),
}


def check_values(config: Config, where: str = "") -> None:
    """Check that every value is one of its choices or in its range.

    Args:
        config: types have been checked.
        where: what errors begin with: "FILE: ".

    Raises:
        UserError: naming the first key that is not.
    """
    values = _flat(to_dict(config))
    for key, choices in CHOICES.items():
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            check_choice(f"{where}{key}", value, choices)
    for key, lengths in _LENGTHS.items():
        if len(values[key]) not in lengths:
            expected = " or ".join(map(str, lengths))
            raise UserError(f"{where}{key} must have {expected} values, got {values[key]!r:.80}")
    for key, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(f"{where}{key}", number, *_RANGES.get(key, (-math.inf, math.inf)))
    for key in config.init_keep:
        if key != RATE and not (key.startswith("model.") and key in values):
            raise UserError(f"{where}init_keep must list keys below model or {RATE}, got {key!r:.80}")
    if 0 < config.inference.tile < _SMALLEST_TILE:
        raise UserError(f"{where}inference.tile must be 0 or at least {_SMALLEST_TILE}, got {config.inference.tile}")
    if not 0 <= config.train.ema_decay < 1:
        raise UserError(f"{where}train.ema_decay must be in [0, 1), got {config.train.ema_decay}")


def check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    """Raise a `UserError` that names the key and the choices, unless the value is one of them."""
    if value not in choices:
        raise UserError(f"{key} must be one of {', '.join(choices)}, got {value!r:.80}{nearest_hint(value, choices)}")


def nearest_hint(value: object, choices: Iterable[str]) -> str:
    """Return `` (did you mean x?)`` with the choice that a mistyped value resembles, or nothing."""
    near = difflib.get_close_matches(str(value)[:80], list(choices), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_number(key: str, number: float, least: float, most: float) -> None:
    if least > -math.inf and not number >= least:
        raise UserError(f"{key} must be at least {least:g}, got {number!r:.40}")
    if isinstance(number, float) and not math.isfinite(number):
        raise UserError(f"{key} must be a finite number, got {number}")
    if number > most:
        raise UserError(f"{key} must be at most {_plainly(most)}, got {number!r:.40}")


def _plainly(number: float) -> str:
    return str(int(number)) if number < 1e15 and number == int(number) else f"{number:g}"


def _flat(values: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
