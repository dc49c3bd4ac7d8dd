"""Fine-tune transformers' EoMT with its Trainer: one line makes it faster, and the labels are segment maps.

``python examples/finetune_eomt.py`` learns generated digits with a tiny random model. For CamVid (docs/data.md) name
its folder, weights on the hub and the number of steps:
``python examples/finetune_eomt.py data/camvid tue-mps/coco_panoptic_eomt_large_640 2000``.
It needs ``pip install "transformers[torch]" scipy``.
"""

import sys
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from transformers import EomtConfig, EomtForUniversalSegmentation, Trainer, TrainingArguments

from maskformer_ext.config import DataConfig
from maskformer_ext.data.build import build_dataset
from maskformer_ext.data.types import Sample
from maskformer_ext.integrations.transformers import accelerate

folder, weights, steps = [*sys.argv[1:], "", "", ""][:3]
torch.manual_seed(0)
dataset = build_dataset(DataConfig(name="camvid", root=folder) if folder else DataConfig(name="digits"), "train")
classes = dataset.info.num_classes
if weights:
    model = EomtForUniversalSegmentation.from_pretrained(weights, num_labels=classes, ignore_mismatched_sizes=True)
else:
    options: dict[str, Any] = {"num_labels": classes, "num_queries": 20, "num_blocks": 2, "train_num_points": 1024}
    options |= {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 96, "patch_size": 8}
    model = EomtForUniversalSegmentation(EomtConfig(**options))
accelerate(model)
size: Any = model.config.image_size


def collate(samples: list[Sample]) -> dict[str, object]:
    """Make a batch: images, the segment map of each, and the class of each segment. No masks are needed."""
    images = torch.cat([F.interpolate(one.image[None].float(), (size, size), mode="bilinear") for one in samples])
    maps = [F.interpolate(one.segment_map[None, None].float(), (size, size))[0, 0].int() for one in samples]
    classes = [one.labels for one in samples]
    return {"pixel_values": (images / 255 - 0.45) / 0.225, "mask_labels": maps, "class_labels": classes}


with tempfile.TemporaryDirectory() as output:
    quiet: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 2}
    run: dict[str, Any] = {"max_steps": int(steps or 10), "learning_rate": 1e-4 if weights else 1e-3}
    arguments = TrainingArguments(output, remove_unused_columns=False, per_device_train_batch_size=4, **run, **quiet)
    trainer = Trainer(model, arguments, data_collator=collate, train_dataset=dataset)
    trainer.train()
    model.save_pretrained(output)  # as before: transformers alone reads it
    again = EomtForUniversalSegmentation.from_pretrained(output)
print("losses:", [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], type(again).__name__)
