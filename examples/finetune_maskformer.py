"""Fine-tune trained MaskFormer weights for other classes in a loop of your own: a new classifier, the rest is kept.

No weights are downloaded here: the folder that stands for the hub holds random ones, of sixteen classes. Trained ones
start with a lower loss. Run it with ``python examples/finetune_maskformer.py``.
"""

import tempfile
from pathlib import Path

import torch

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import SegmentTargets

SIZE = 96
torch.manual_seed(0)

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary, "weights")
    build_model("digits", num_classes=16).save_pretrained(folder)
    # In place of the folder: a hub id such as "facebook/maskformer-swin-tiny-ade", a run, or a file of the original.
    model = MaskFormer.from_pretrained(folder, num_classes=2, reset_head=True)

# Two pictures, uint8 RGB, with one class id per pixel: 0 is sea, 1 is land.
label_map = torch.zeros(2, SIZE, SIZE, dtype=torch.int64)
label_map[0, :, 40:] = 1
label_map[1, 30:70, 20:80] = 1
colors = torch.tensor([[40, 90, 160], [170, 150, 90]])
pictures = (colors[label_map] + torch.randint(-20, 20, (2, SIZE, SIZE, 3))).byte().permute(0, 3, 1, 2)
targets = SegmentTargets.from_label_map(label_map)
mean = torch.tensor(model.config.pixel_mean).view(3, 1, 1)
std = torch.tensor(model.config.pixel_std).view(3, 1, 1)

head = list(model.class_head.parameters())
known = {id(parameter) for parameter in head}
rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
optimizer = torch.optim.AdamW([{"params": head, "lr": 1e-3}, {"params": rest, "lr": 2e-4}])
criterion = MaskFormerCriterion(num_classes=2, dice_weight=5.0)

model.train()
for step in range(21):
    total, losses, _ = criterion(model((pictures - mean) / std), targets)
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 5 == 0:
        print(f"step {step:2d}  total {total.item():.2f}  of the last layer: class {losses['loss_ce'].item():.3f}")
