"""What the thirty recipes of the original say, in the keys of this package's configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent / "golden"
RECIPES: dict[str, dict[str, Any]] = {
    name.removesuffix(".yaml"): values for name, values in json.loads((ROOT / "recipes.json").read_text()).items()
}

_ARCHITECTURES = {
    "MaskFormerHead": "maskformer",
    "PerPixelBaselineHead": "per_pixel_baseline",
    "PerPixelBaselinePlusHead": "per_pixel_baseline_plus",
}
_SWINS = {(96, 6): "swin_tiny", (96, 18): "swin_small", (128, 18): "swin_base", (192, 18): "swin_large"}
_DATA_SETS = {
    ("ade20k_sem_seg_train", "ade20k_sem_seg_val"): "ade20k",
    ("ade20k_panoptic_train", "ade20k_panoptic_val"): "ade20k_panoptic",
    ("ade20k_full_sem_seg_train", "ade20k_full_sem_seg_val"): "ade20k_full",
    ("cityscapes_fine_sem_seg_train", "cityscapes_fine_sem_seg_val"): "cityscapes",
    ("coco_2017_train_panoptic", "coco_2017_val_panoptic"): "coco_panoptic",
    ("coco_2017_train_stuff_10k_sem_seg", "coco_2017_test_stuff_10k_sem_seg"): "coco_stuff_10k",
    ("mapillary_vistas_sem_seg_train", "mapillary_vistas_sem_seg_val"): "mapillary_vistas",
}
PRETRAINED = {
    "detectron2://ImageNetPretrained/torchvision/R-50.pkl": "resnet50.tv_in1k",
    "R-101.pkl": "resnet101.tv_in1k",
    "swin_tiny_patch4_window7_224.pkl": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small_patch4_window7_224.pkl": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base_patch4_window12_384_22k.pkl": "swin_base_patch4_window12_384.ms_in22k",
    "swin_large_patch4_window12_384_22k.pkl": "swin_large_patch4_window12_384.ms_in22k",
}
"""The same weights under timm's names."""


def expected_values(recipe: str) -> dict[str, Any]:
    """Translate a recipe to dotted keys and values; what has no effect in a recipe is left out."""
    facts = RECIPES[recipe]
    return _model(facts) | _criterion(facts) | _data(facts) | _training(facts) | _inference(facts)


def _model(facts: dict[str, Any]) -> dict[str, Any]:
    model = facts["model"]
    head, transformer, swin = model["sem_seg_head"], model["mask_former"], model["swin"]
    if swin:
        backbone = _SWINS[swin["embed_dim"], swin["depths"][2]]
    else:
        backbone = f"resnet{model['resnets']['depth']}" + "c" * (model["resnets"]["stem_type_used"] == "deeplab")
    divisor = model["model_size_divisibility"]
    values = {
        "architecture": _ARCHITECTURES[head["name"]],
        "backbone": backbone,
        "backbone_weights": "timm" if model["pretrained"] in PRETRAINED else model["pretrained"].rsplit("/")[-1],
        "pixel_mean": facts["data"]["pixel_mean"],
        "pixel_std": facts["data"]["pixel_std"],
        "size_divisibility": 0 if isinstance(divisor, str) and not swin else divisor,
        "num_classes": head["num_classes"],
        "pixel_decoder_dim": head["convs_dim"],
        "mask_dim": head["mask_dim"],
    }
    encoder = head["pixel_decoder_name"] == "TransformerEncoderPixelDecoder"
    values["pixel_decoder"] = "transformer_encoder" if encoder else "fpn"
    if encoder:
        values["encoder_layers"] = head["transformer_enc_layers"]
    else:  # the transformer decoder attends to res5
        values |= {"decoder_memory": "backbone", "decoder_feature": -1}
    if head["name"] != "PerPixelBaselineHead":
        values |= {
            "num_queries": transformer["num_object_queries"],
            "hidden_dim": transformer["hidden_dim"],
            "num_heads": transformer["nheads"],
            "feedforward_dim": transformer["dim_feedforward"],
            "decoder_layers": transformer["dec_layers"],
            "dropout": transformer["dropout"],
            "deep_supervision": transformer["deep_supervision"],
        }
    if swin:
        values["drop_path"] = swin["drop_path_rate"]
    return {f"model.{key}": value for key, value in values.items()}


def _criterion(facts: dict[str, Any]) -> dict[str, Any]:
    criterion = facts["criterion"]
    if criterion is None:
        return {}
    weights = {"class": "ce", "mask": "mask", "dice": "dice"}
    for ours, theirs in weights.items():
        assert criterion[f"cost_{ours}"] == criterion[f"w_{theirs}"]  # one weight serves cost and loss
    return {f"criterion.{ours}_weight": criterion[f"w_{theirs}"] for ours, theirs in weights.items()} | {
        "criterion.no_object_weight": criterion["no_object_weight"],
        "criterion.alpha": criterion["focal_alpha"],
        "criterion.gamma": criterion["focal_gamma"],
        "criterion.ignore_void": False,
    }


def _data(facts: dict[str, Any]) -> dict[str, Any]:
    data, training = facts["data"], facts["train_input"]
    crop = training["crop"]
    assert crop["enabled"] and training["sampling"] == "choice" and data["image_format"] == "RGB"
    splits = (*data["train"], *data["test"])
    values = {
        "name": _DATA_SETS[splits],
        "task": "semantic" if data["mapper"] == "mask_former_semantic" else "panoptic",
        "ignore_label": data["ignore_label"],
        "drop_empty": False,
    }
    augmentation = {
        "min_sizes": training["min_size"],
        "max_size": training["max_size"],
        "color": training["color_aug_ssd"],
        "horizontal_flip": True,
        "vertical_flip": False,
        "rotate90": False,
    }
    if crop["type"] == "absolute":
        divisor = training["mapper_size_divisibility"]
        assert divisor in (-1, crop["size"][0])
        augmentation |= {
            "crop_size": crop["size"],
            "pad_to_crop": divisor > 0,
            "single_category_max_area": crop["single_category_max_area"],
            "zoom_sizes": [],
        }
    else:
        sizes = re.search(r"short_edge_length=\[([\d, ]+)\]", training["augmentations"]["crop_gen"][0])
        assert sizes is not None
        augmentation |= {
            "crop_size": [],
            "zoom_sizes": [int(size) for size in sizes[1].split(",")],
            "zoom_range": crop["size"],
        }
    return {f"data.{key}": value for key, value in values.items()} | {
        f"data.augmentation.{key}": value for key, value in augmentation.items()
    }


def _training(facts: dict[str, Any]) -> dict[str, Any]:
    optim = facts["optim"]
    clip, schedule = optim["clip"], optim["schedule"]
    assert optim["optimizer"] == "ADAMW" and clip["enabled"] and (clip["type"], clip["norm_type"]) == ("full_model", 2)
    values = {
        "optimizer.lr": optim["base_lr"],
        "optimizer.backbone_multiplier": optim["backbone_multiplier"],
        "optimizer.weight_decay": optim["weight_decay"],
        "optimizer.weight_decay_norm": optim["weight_decay_norm"],
        "optimizer.weight_decay_embed": optim["weight_decay_embed"],
        "optimizer.betas": optim["betas"],
        "optimizer.eps": optim["eps"],
        "optimizer.clip_norm": clip["value"],
        "schedule.warmup_iters": schedule["warmup_iters"],
        "schedule.warmup_factor": schedule["warmup_factor"],
        "train.max_iters": optim["max_iter"],
        "train.batch_size": optim["ims_per_batch"],
        "train.precision": "fp16" if optim["amp"] else "fp32",
        "train.eval_period": facts["test"]["eval_period"],
    }
    if schedule["name"] == "WarmupPolyLR":
        assert schedule["poly_constant_ending"] == 0
        return values | {"schedule.name": "poly", "schedule.power": schedule["poly_power"]}
    return values | {
        "schedule.name": "step",
        "schedule.steps": schedule["steps"],
        "schedule.gamma": schedule["gamma"],
    }


def _inference(facts: dict[str, Any]) -> dict[str, Any]:
    test, size = facts["test"], facts["test_input"]
    values = {
        "min_size": size["min_size"],
        "max_size": size["max_size"],
        "resize": "logits" if test["effective_postprocess_before"] else "scores",
        "tta": test["tta"]["enabled"],
        "tta_min_sizes": test["tta"]["min_sizes"],
        "tta_max_size": test["tta"]["max_size"],
        "tta_flip": test["tta"]["flip"],
    }
    if test["panoptic_on"]:
        values |= {key: test[key] for key in ("object_mask_threshold", "overlap_threshold")}
    return {f"inference.{key}": value for key, value in values.items()}
