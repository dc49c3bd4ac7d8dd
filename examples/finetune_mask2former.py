"""Fine-tune transformers' Mask2Former with its Trainer: one line makes it faster, and the labels are segment maps.

``python examples/finetune_mask2former.py`` learns generated digits with a tiny random model. For CamVid (docs/data.md)
name its folder, weights on the hub and the number of steps:
``python examples/finetune_mask2former.py data/camvid facebook/mask2former-swin-tiny-ade-semantic 2000``.
It needs ``pip install "transformers[torch]" scipy``.
"""

import sys
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig, Trainer, TrainingArguments

from maskformer_ext.config import DataConfig
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.types import Sample
from maskformer_ext.integrations.transformers import accelerate

folder, weights, steps = [*sys.argv[1:], "", "", ""][:3]
torch.manual_seed(0)
dataset = build_dataset(DataConfig(name="camvid", root=folder) if folder else DataConfig(name="digits"), "train")
named: Any = {"num_labels": dataset.info.num_classes}
if weights:
    model = Mask2FormerForUniversalSegmentation.from_pretrained(weights, ignore_mismatched_sizes=True, **named)
else:
    swin = SwinConfig(embed_dim=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=4)
    swin.out_features = ["stage1", "stage2", "stage3", "stage4"]
    named |= {"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_layers": 1, "decoder_layers": 4}
    named |= {"num_queries": 20, "train_num_points": 1024, "dim_feedforward": 128, "encoder_feedforward_dim": 128}
    model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, **named))
accelerate(model)
size = (360, 480) if folder else (96, 96)


def collate(samples: list[Sample]) -> dict[str, object]:
    """Make a batch: images, the segment map of each, and the class of each segment. No masks are needed."""
    images = torch.cat([F.interpolate(one.image[None].float(), size, mode="bilinear") for one in samples])
    maps = [F.interpolate(one.segment_map[None, None].float(), size)[0, 0].int() for one in samples]
    classes = [one.labels for one in samples]
    return {"pixel_values": (images / 255 - 0.45) / 0.225, "mask_labels": maps, "class_labels": classes}


with tempfile.TemporaryDirectory() as output:
    quiet: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 2}
    run: dict[str, Any] = {"max_steps": int(steps or 8), "learning_rate": 1e-4 if weights else 1e-3}
    arguments = TrainingArguments(output, remove_unused_columns=False, per_device_train_batch_size=4, **run, **quiet)
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=dataset)
    trainer.train()
    model.save_pretrained(output)  # as before: transformers alone reads it
    again = Mask2FormerForUniversalSegmentation.from_pretrained(output)
print("losses:", [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], type(again).__name__)
