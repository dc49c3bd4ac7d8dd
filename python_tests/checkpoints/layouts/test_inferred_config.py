"""The sizes of a network from the shapes of its weights, for every configuration of the original."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.layouts.inferred_config import infer_model_config
from maskformer_ext.checkpoints.layouts.original import with_pixel_decoder
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names, to_transformers_names
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.errors import UserError

KEYS = Path(__file__).parents[2] / "golden" / "state_dict_keys"
INDEX: dict[str, str] = json.loads((KEYS / "index.json").read_text())
SWIN_T = "ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml"


def stored(recipe: str) -> dict[str, Tensor]:
    """The weights of a configuration: names and shapes, no values."""
    content = json.loads((KEYS / INDEX[recipe]).read_text())
    while "same_as" in content:
        content = json.loads((KEYS / f"{content['same_as']}.json").read_text())
    return {name: torch.empty(shape, device="meta") for name, shape in content["shapes"].items()}


@pytest.mark.parametrize("recipe", INDEX)
def test_shapes_tell_the_network(recipe: str) -> None:
    weights = stored(recipe)
    first_version = {name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): w for name, w in weights.items()}
    assert with_pixel_decoder(first_version) == weights
    config = infer_model_config(weights)
    with torch.device("meta"):
        model = build_model(config)
    derived = re.compile(r"criterion\.|.*relative_position_index$")
    expected = {name: value.shape for name, value in weights.items() if not derived.match(name)}
    assert {original_name(name): value.shape for name, value in model.state_dict().items()} == expected

    unknown_there = config.architecture != "maskformer" or config.pixel_decoder != "fpn" or config.backbone[-1] == "c"
    if unknown_there:
        with pytest.raises(UserError, match="transformers' MaskFormer has no place for"):
            to_transformers_names(weights)
    else:
        back = to_original_names(to_transformers_names(weights))
        assert {name: value.shape for name, value in back.items()} == {name: w.shape for name, w in weights.items()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("backbone.patch_embed.proj.weight"), "patch_embed.* or .*stem.* is missing"),
        (lambda w: w.pop("sem_seg_head.predictor.query_embed.weight"), "query_embed.weight is missing"),
        (
            lambda w: w.update({"backbone.layers.2.blocks.9.norm1.weight": torch.zeros(1)}),
            "got 96 channels, 10 blocks in the third stage and windows of 7",
        ),
    ],
)
def test_what_is_no_maskformer_is_refused(spoil, message: str) -> None:
    weights = stored(SWIN_T)
    spoil(weights)
    with pytest.raises(UserError, match=message):
        infer_model_config(weights)
