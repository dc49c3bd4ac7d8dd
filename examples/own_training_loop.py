"""Train a MaskFormer with `MaskFormerCriterion` in a loop of your own: any optimizer, any data.

The network is that of the recipe ``digits`` with random weights. It learns two pictures by heart, then segments them.
Run it with ``python examples/own_training_loop.py``.
"""

import torch

from maskformer_ext import build_model
from maskformer_ext.inference import segment
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import SegmentTargets

SIZE = 96
torch.manual_seed(0)

# Two pictures, uint8 RGB, with one segment id per pixel; `categories` gives the class of each segment.
id_map = torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
id_map[0, 16:48, 16:48], id_map[0, 56:88, 40:80] = 1, 2
id_map[1, 24:72, 32:64] = 1
colors = torch.tensor([[40, 60, 40], [220, 60, 60], [70, 90, 230]])
pictures = (colors[id_map] + torch.randint(-20, 20, (2, SIZE, SIZE, 3))).byte().permute(0, 3, 1, 2)
categories = [{0: 0, 1: 1, 2: 1}, {0: 0, 1: 1}]  # class 0: background, class 1: box
targets = SegmentTargets.from_id_map(id_map, categories)

model = build_model("digits", num_classes=2)
criterion = MaskFormerCriterion(num_classes=2, dice_weight=5.0)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1)
std = torch.tensor(model.config.pixel_std).view(3, 1, 1)

model.train()
for step in range(41):
    total, losses, _ = criterion(model((pictures - mean) / std), targets)
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step:2d}  total {total.item():.2f}  of the last layer: mask {losses['loss_mask'].item():.4f}")

# `segment` resizes, normalises, runs the network and brings masks to the size of the picture.
results = segment(model, list(pictures), task="panoptic", thing_classes=[1], min_size=SIZE, object_mask_threshold=0.5)
for number, result in enumerate(results):
    found = ", ".join(f"class {part['category_id']} ({part['score']:.2f})" for part in result.segments_info)
    print(f"picture {number}: {len(categories[number])} segments in truth, found {found or 'none'}")
