"""transformers' weights under the original's names."""

import json

import pytest
import torch

from maskformer_ext.checkpoints import load_original
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.layouts.transformers_names import to_original_names, to_transformers_names
from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError

transformers = pytest.importorskip("transformers")


STAGES = ["stage1", "stage2", "stage3", "stage4"]
KEYS = {
    "swin_tiny": "ade20k-150__swin__maskformer_swin_tiny_bs16_160k.json",
    "resnet50": "ade20k-150__maskformer_R50_bs16_160k.json",
}


@pytest.fixture(scope="module", params=KEYS)
def their_model(request):
    if request.param == "swin_tiny":
        backbone = transformers.SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            drop_path_rate=0.0,
            out_features=STAGES,
        )
    else:
        backbone = transformers.ResNetConfig(out_features=STAGES)
    config = transformers.MaskFormerConfig(
        backbone_config=backbone, decoder_config=transformers.DetrConfig(), num_labels=150
    )
    model = transformers.MaskFormerForInstanceSegmentation(config).eval()
    model.our_backbone = request.param
    return model


def test_names_and_shapes_are_the_originals(their_model, golden_dir):
    keys = golden_dir / "state_dict_keys" / KEYS[their_model.our_backbone]
    expected = json.loads(keys.read_text())["shapes"]
    renamed = to_original_names(their_model.state_dict())
    assert {name: list(value.shape) for name, value in renamed.items()} == expected


def test_loaded_weights_predict_what_transformers_predicts(their_model):
    for parameter in their_model.parameters():  # no weight may keep a value that hides an exchange, such as 1 or 0
        torch.nn.init.normal_(parameter, std=0.05)
    for name, statistic in their_model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(statistic, 0.5, 2.0)
    ours = build_model(ModelConfig(backbone=their_model.our_backbone, num_classes=150)).eval()
    load_original(ours, to_original_names(their_model.state_dict()))
    images = torch.randn(1, 3, 75, 100)
    with torch.no_grad():
        theirs, out = their_model(images), ours(images)
    torch.testing.assert_close(out.class_logits[-1], theirs.class_queries_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.mask_logits(), theirs.masks_queries_logits, rtol=1e-4, atol=1e-5)


def test_names_and_weights_survive_the_round_trip(their_model, tmp_path):
    their_model.save_pretrained(tmp_path)
    file = read_state_dict(tmp_path / "model.safetensors")
    back = to_transformers_names(to_original_names(their_model.state_dict()))
    assert back.keys() == file.keys()
    unused = "model.pixel_level_module.encoder.model.layernorm"  # of a pooled feature
    assert all(torch.equal(back[name], value) for name, value in file.items() if not name.startswith(unused))
    both = to_original_names(file)  # names in files and in memory differ
    assert all(torch.equal(both[name], value) for name, value in to_original_names(their_model.state_dict()).items())


def test_a_missing_projection_is_named(their_model):
    state = their_model.state_dict()
    del state["model.transformer_module.decoder.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(UserError, match=r"the k projection of .*layers\.1\.self_attn\.in_proj_weight is missing"):
        to_original_names(state)


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match=r"model\.other\.weight"):
        to_original_names({"model.other.weight": torch.zeros(1)})
