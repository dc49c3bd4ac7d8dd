"""Look at what `segment` returns: draw it, go through its segments, save it, and hand it to other tools.

No trained weights ship with this package. The model here learns one picture by heart, which takes seconds. Run it with
``python examples/look_at_a_result.py``; it writes ``overlay.png`` and the folder ``looked_at``.
"""

import torch

from maskformer_ext import build_model
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.inference import segment
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.ops import SegmentTargets

SIZE = 96
torch.manual_seed(0)
info = DatasetInfo("boxes", ("ground", "box"), ((110, 120, 130), (230, 90, 60)), thing_classes=(1,))

# A picture with two boxes, and a model that knows nothing else. With weights of your own this is one line:
# model = MaskFormer.from_pretrained("output/digits").
id_map = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
id_map[0, 16:48, 16:48], id_map[0, 56:88, 40:80] = 1, 2
colors = torch.tensor([[40, 60, 40], [220, 60, 60], [70, 90, 230]])
picture = (colors[id_map[0]] + torch.randint(-20, 20, (SIZE, SIZE, 3))).byte().permute(2, 0, 1)
targets = SegmentTargets.from_id_map(id_map, [{0: 0, 1: 1, 2: 1}])
model = build_model("digits", num_classes=2).train()
criterion = MaskFormerCriterion(num_classes=2, dice_weight=5.0)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.config.pixel_mean, model.config.pixel_std))
for _ in range(40):
    optimizer.zero_grad()
    criterion(model((picture[None] - mean) / std), targets)[0].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

result = segment(model, picture, task="panoptic", info=info, object_mask_threshold=0.5)
print(result)  # what was found, and how long it took
print(result.times)
for part in result:
    print(f"{part.name:8} score {part.score:.2f}  {100 * part.share:4.1f}% of the picture  box {part.box}")

print("wrote", result.save("overlay.png"))  # in a notebook the picture shows by itself; plot() returns it
print("wrote", result.save("looked_at", name="boxes"))  # overlay, map of ids and JSON, as `predict` writes them

print("COCO:", [(a["category_id"], a["bbox"], a["area"]) for a in result.to_coco(image_id=1)])
print("YOLO:", [line[:40] for line in result.to_yolo()])
try:
    print("supervision:", len(result.to_supervision()), "detections")
except UserError as error:  # where it is not installed
    print(error)
