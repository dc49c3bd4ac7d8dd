"""Weights under the names of transformers' MaskFormer, brought to the names of the original."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskformer_ext.errors import UserError

_ENCODER = r"model\.pixel_level_module\.encoder"
# Later transformers versions wrote out_proj as o_proj and put fc1, fc2 below mlp.
_BLOCK = _ENCODER + r"\.model\.encoder\.layers\.(\d+)\.blocks\.(\d+)"
_FPN = r"model\.pixel_level_module\.decoder\.fpn"
_LAYER = r"model\.transformer_module\.decoder\.layers\.(\d+)"
_TO_BLOCK = r"backbone.layers.\1.blocks.\2"
_TO_PIXEL_DECODER = r"sem_seg_head.pixel_decoder"
_TO_PREDICTOR = r"sem_seg_head.predictor"
_TO_LAYER = _TO_PREDICTOR + r".transformer.decoder.layers.\1"

# ResNets: stages and convolutions count from 0 in transformers, the original's res2 to res5 and conv1 to conv3 do not.
_PARTS = {"convolution": "", "normalization": ".norm"}
_RESNET = [
    *((rf"{_ENCODER}\.embedder\.embedder\.{part}", f"backbone.stem.conv1{norm}") for part, norm in _PARTS.items()),
    *(
        (
            rf"{_ENCODER}\.encoder\.stages\.{stage}\.layers\.(\d+)\.{place}\.{part}",
            rf"backbone.res{stage + 2}.\1.{name}{norm}",
        )
        for stage in range(4)
        for place, name in (("shortcut", "shortcut"), *((rf"layer\.{i}", f"conv{i + 1}") for i in range(3)))
        for part, norm in _PARTS.items()
    ),
]

_RULES = [
    *_RESNET,
    (
        r"model\.pixel_level_module\.encoder\.model\.embeddings\.patch_embeddings\.projection",
        "backbone.patch_embed.proj",
    ),
    (r"model\.pixel_level_module\.encoder\.model\.embeddings\.norm", "backbone.patch_embed.norm"),
    (_BLOCK + r"\.layernorm_before", _TO_BLOCK + ".norm1"),
    (_BLOCK + r"\.layernorm_after", _TO_BLOCK + ".norm2"),
    (_BLOCK + r"\.attention\.self\.(relative_position_bias_table|relative_position_index)", _TO_BLOCK + r".attn.\3"),
    (_BLOCK + r"\.attention\.self\.(query|key|value)", _TO_BLOCK + r".attn.qkv/\3"),
    (_BLOCK + r"\.attention\.output\.dense", _TO_BLOCK + ".attn.proj"),
    (_BLOCK + r"\.intermediate\.dense", _TO_BLOCK + ".mlp.fc1"),
    (_BLOCK + r"\.output\.dense", _TO_BLOCK + ".mlp.fc2"),
    (
        r"model\.pixel_level_module\.encoder\.model\.encoder\.layers\.(\d+)\.downsample\.(reduction|norm)",
        r"backbone.layers.\1.downsample.\2",
    ),
    (_ENCODER + r"\.hidden_states_norms\.(\d+)", r"backbone.norm\1"),
    (_FPN + r"\.stem\.0", _TO_PIXEL_DECODER + ".layer_4"),
    (_FPN + r"\.stem\.1", _TO_PIXEL_DECODER + ".layer_4.norm"),
    (_FPN + r"\.layers\.(\d+)\.proj\.0", _TO_PIXEL_DECODER + r".adapter_<\1>"),
    (_FPN + r"\.layers\.(\d+)\.proj\.1", _TO_PIXEL_DECODER + r".adapter_<\1>.norm"),
    (_FPN + r"\.layers\.(\d+)\.block\.0", _TO_PIXEL_DECODER + r".layer_<\1>"),
    (_FPN + r"\.layers\.(\d+)\.block\.1", _TO_PIXEL_DECODER + r".layer_<\1>.norm"),
    (r"model\.pixel_level_module\.decoder\.mask_projection", _TO_PIXEL_DECODER + ".mask_features"),
    (r"model\.transformer_module\.queries_embedder", _TO_PREDICTOR + ".query_embed"),
    (r"model\.transformer_module\.input_projection", _TO_PREDICTOR + ".input_proj"),
    (_LAYER + r"\.self_attn\.([qkv])_proj", _TO_LAYER + r".self_attn.in_proj/\2"),
    (_LAYER + r"\.encoder_attn\.([qkv])_proj", _TO_LAYER + r".multihead_attn.in_proj/\2"),
    (_LAYER + r"\.self_attn\.o(?:ut)?_proj", _TO_LAYER + ".self_attn.out_proj"),
    (_LAYER + r"\.encoder_attn\.o(?:ut)?_proj", _TO_LAYER + ".multihead_attn.out_proj"),
    (_LAYER + r"\.self_attn_layer_norm", _TO_LAYER + ".norm1"),
    (_LAYER + r"\.encoder_attn_layer_norm", _TO_LAYER + ".norm2"),
    (_LAYER + r"\.final_layer_norm", _TO_LAYER + ".norm3"),
    (_LAYER + r"\.(?:mlp\.)?fc([12])", _TO_LAYER + r".linear\2"),
    (r"model\.transformer_module\.decoder\.layernorm", _TO_PREDICTOR + ".transformer.decoder.norm"),
    (r"class_predictor", _TO_PREDICTOR + ".class_embed"),
    (r"mask_embedder\.(\d+)\.0", _TO_PREDICTOR + r".mask_embed.layers.\1"),
    (r"criterion\.empty_weight", "criterion.empty_weight"),
]
_COMPILED = [
    (re.compile(pattern + r"(\.weight|\.bias|\.running_mean|\.running_var)?$"), replacement)
    for pattern, replacement in _RULES
]
# The Swin encoder normalises its last output once more for a pooled feature that MaskFormer does not use. ResNets count
# batches, which frozen norms do not.
_UNUSED = re.compile(_ENCODER + r"\.(model\.layernorm\.(weight|bias)|.*\.num_batches_tracked)$")
_PACKED = {"query": 0, "key": 1, "value": 2, "q": 0, "k": 1, "v": 2}


def _original_name(name: str) -> str:
    for pattern, replacement in _COMPILED:
        match = pattern.match(name)
        if match:
            # The lateral levels count from the coarsest in transformers, from the finest in the original.
            renamed = re.sub(r"<(\d+)>", lambda level: str(3 - int(level[1])), match.expand(replacement))
            return renamed + (match[match.re.groups] or "")
    raise UserError(f"checkpoint: {name} is not a weight of transformers' MaskFormer with a Swin or ResNet backbone")


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
    parts: dict[str, dict[int, Tensor]] = {}
    for name, value in state_dict.items():
        if _UNUSED.match(name):
            continue
        target = _original_name(name)
        if "/" in target:
            stem, part = target.split("/")
            part, kind = part.split(".")
            joint = "_" if stem.endswith("in_proj") else "."  # in_proj_weight, but qkv.weight
            parts.setdefault(f"{stem}{joint}{kind}", {})[_PACKED[part]] = value
        else:
            renamed[target] = value
    for name, three in parts.items():
        renamed[name] = torch.cat([three[part] for part in range(3)])
    return renamed
