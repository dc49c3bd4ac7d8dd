"""Weights under the names of transformers' MaskFormer, brought to the names of the original and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskformer_ext.errors import UserError

_ENCODER = "model.pixel_level_module.encoder"
_STAGE = _ENCODER + ".model.encoder.layers.{}"
_BLOCK = _STAGE + ".blocks.{}"
_FPN = "model.pixel_level_module.decoder.fpn"
_LAYER = "model.transformer_module.decoder.layers.{}"
_OUR_BLOCK = "backbone.layers.{}.blocks.{}"
_PIXEL_DECODER = "sem_seg_head.pixel_decoder"
_PREDICTOR = "sem_seg_head.predictor"
_OUR_LAYER = _PREDICTOR + ".transformer.decoder.layers.{}"

# transformers' module -> the original's. {} is a number, the same on both sides. <{}> is a lateral level: transformers
# counts from the coarsest, the original from the finest (1). What follows "/" is a part of a packed matrix.
_SWIN = [
    (_ENCODER + ".model.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj"),
    (_ENCODER + ".model.embeddings.norm", "backbone.patch_embed.norm"),
    (_BLOCK + ".layernorm_before", _OUR_BLOCK + ".norm1"),
    *(
        (_BLOCK + f".attention.self.relative_position_{kind}", _OUR_BLOCK + f".attn.relative_position_{kind}")
        for kind in ("bias_table", "index")
    ),
    *((_BLOCK + f".attention.self.{part}", _OUR_BLOCK + f".attn.qkv/{part[0]}") for part in ("query", "key", "value")),
    (_BLOCK + ".attention.output.dense", _OUR_BLOCK + ".attn.proj"),
    (_BLOCK + ".layernorm_after", _OUR_BLOCK + ".norm2"),
    (_BLOCK + ".intermediate.dense", _OUR_BLOCK + ".mlp.fc1"),
    (_BLOCK + ".output.dense", _OUR_BLOCK + ".mlp.fc2"),
    *((_STAGE + f".downsample.{part}", f"backbone.layers.{{}}.downsample.{part}") for part in ("reduction", "norm")),
    (_ENCODER + ".hidden_states_norms.{}", "backbone.norm{}"),
]
# ResNets: stages and convolutions count from 0 in transformers, the original's res2 to res5 and conv1 to conv3 do not.
_RESNET = [
    (f"{theirs}.{part}", f"{ours}{norm}")
    for theirs, ours in [
        (f"{_ENCODER}.embedder.embedder", "backbone.stem.conv1"),
        *(
            (f"{_ENCODER}.encoder.stages.{stage}.layers.{{}}.{place}", f"backbone.res{stage + 2}.{{}}.{name}")
            for stage in range(4)
            for place, name in (("shortcut", "shortcut"), *((f"layer.{i}", f"conv{i + 1}") for i in range(3)))
        ),
    ]
    for part, norm in (("convolution", ""), ("normalization", ".norm"))
]
_HEADS = [
    (_FPN + ".stem.0", _PIXEL_DECODER + ".layer_4"),
    (_FPN + ".stem.1", _PIXEL_DECODER + ".layer_4.norm"),
    *(
        (_FPN + f".layers.<{{}}>.{branch}.{index}", _PIXEL_DECODER + f".{name}_<{{}}>{norm}")
        for branch, name in (("proj", "adapter"), ("block", "layer"))
        for index, norm in enumerate(("", ".norm"))
    ),
    ("model.pixel_level_module.decoder.mask_projection", _PIXEL_DECODER + ".mask_features"),
    ("model.transformer_module.queries_embedder", _PREDICTOR + ".query_embed"),
    ("model.transformer_module.input_projection", _PREDICTOR + ".input_proj"),
    *(
        (_LAYER + f".{theirs}.{part}_proj", _OUR_LAYER + f".{ours}.in_proj/{part}")
        for theirs, ours in (("self_attn", "self_attn"), ("encoder_attn", "multihead_attn"))
        for part in "qkv"
    ),
    (_LAYER + ".self_attn.out_proj", _OUR_LAYER + ".self_attn.out_proj"),
    (_LAYER + ".encoder_attn.out_proj", _OUR_LAYER + ".multihead_attn.out_proj"),
    (_LAYER + ".self_attn_layer_norm", _OUR_LAYER + ".norm1"),
    (_LAYER + ".encoder_attn_layer_norm", _OUR_LAYER + ".norm2"),
    (_LAYER + ".final_layer_norm", _OUR_LAYER + ".norm3"),
    (_LAYER + ".fc1", _OUR_LAYER + ".linear1"),
    (_LAYER + ".fc2", _OUR_LAYER + ".linear2"),
    ("model.transformer_module.decoder.layernorm", _PREDICTOR + ".transformer.decoder.norm"),
    ("class_predictor", _PREDICTOR + ".class_embed"),
    ("mask_embedder.{}.0", _PREDICTOR + ".mask_embed.layers.{}"),
    ("criterion.empty_weight", "criterion.empty_weight"),
]
_PAIRS = [*_SWIN, *_RESNET, *_HEADS]
_KIND = r"((?:\.(?:weight|bias|running_mean|running_var))?)"
# Later transformers versions call these so in memory; their files keep the names above.
_LATER = [
    (re.compile(r"(transformer_module\.decoder\.layers\.\d+\.\w+_attn)\.o_proj\."), r"\1.out_proj."),
    (re.compile(r"(transformer_module\.decoder\.layers\.\d+)\.mlp\.fc"), r"\1.fc"),
]
# The Swin encoder normalises its last output once more for a pooled feature that MaskFormer does not use. ResNets count
# batches, which frozen norms do not.
_UNUSED = re.compile(re.escape(_ENCODER) + r"\.(model\.layernorm\.(weight|bias)|.*\.num_batches_tracked)$")
_PACKED = re.compile(r"(.*\.(?:in_proj_|qkv\.))(weight|bias)$")


def _compile(source: str) -> re.Pattern[str]:
    pattern = re.escape(source).replace(r"<\{\}>", r"(\d{1,4})").replace(r"\{\}", r"(\d{1,4})")
    return re.compile(pattern + _KIND + "$")


_TO_ORIGINAL = [(_compile(theirs), ours) for theirs, ours in _PAIRS]
_TO_TRANSFORMERS = [(_compile(ours), theirs) for theirs, ours in _PAIRS]


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in rules:
        if match := pattern.match(name):
            *numbers, kind = match.groups()
            level = [str(3 - int(number)) for number in numbers] if "<{}>" in target else numbers
            return target.replace("<{}>", "{}").format(*level) + kind
    return None


def to_original_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of transformers' `MaskFormerForInstanceSegmentation` to the original's names.

    The backbone is a Swin or a bottleneck ResNet, whose batch norms the original keeps frozen. Query, key and value
    projections, separate there, are packed into one matrix.

    Args:
        state_dict: weights under transformers' names.

    Returns:
        The same weights under the names that `load_original` reads.

    Raises:
        UserError: a name is unknown.
    """
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state_dict.items():
        if _UNUSED.match(name):
            continue
        theirs = name
        for later, earlier in _LATER:
            theirs = later.sub(earlier, theirs)
        target = _rename(theirs, _TO_ORIGINAL)
        if target is None:
            raise UserError(
                f"checkpoint: {name} is not a weight of transformers' MaskFormer with a Swin or ResNet backbone"
            )
        if "/" in target:
            stem, part = target.split("/")
            part, kind = part.split(".")
            joint = "_" if stem.endswith("in_proj") else "."  # in_proj_weight, but qkv.weight
            parts.setdefault(f"{stem}{joint}{kind}", {})[part] = value
        else:
            renamed[target] = value
    for name, three in parts.items():
        if missing := [part for part in "qkv" if part not in three]:
            raise UserError(f"checkpoint: the {missing[0]} projection of {name} is missing")
        shapes = {tuple(three[part].shape) for part in "qkv"}
        if len(shapes) > 1 or () in shapes:
            raise UserError(f"checkpoint: the three projections of {name} must have one shape, got {sorted(shapes)}")
        renamed[name] = torch.cat([three[part] for part in "qkv"])
    return renamed


def to_transformers_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights from the original's names to those in files of transformers' MaskFormer.

    Weights that transformers keeps and MaskFormer does not use are added:

    - the counters of batch norms, 0;
    - the norm of a Swin's pooled feature, 1 and 0.

    Args:
        state_dict: weights of a MaskFormer without a transformer encoder, on a Swin or a ResNet with a plain stem.

    Raises:
        UserError: transformers has no place for a weight.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        parts = {name: value}
        if packed := _PACKED.match(name):
            stem = packed[1].rstrip("_.")
            parts = {f"{stem}/{part}.{packed[2]}": third for part, third in zip("qkv", value.chunk(3), strict=True)}
        for part_name, part in parts.items():
            target = _rename(part_name, _TO_TRANSFORMERS)
            if target is None:
                raise UserError(f"checkpoint: transformers' MaskFormer has no place for {name}")
            renamed[target] = part.contiguous()
            if target.endswith(".running_var"):
                renamed[target.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    if "class_predictor.weight" not in renamed:
        raise UserError("checkpoint: transformers' MaskFormer has no place for a per-pixel baseline")
    last = renamed.get(_ENCODER + ".hidden_states_norms.3.weight")
    if last is not None:
        renamed[_ENCODER + ".model.layernorm.weight"] = torch.ones_like(last)
        renamed[_ENCODER + ".model.layernorm.bias"] = torch.zeros_like(last)
    return renamed
