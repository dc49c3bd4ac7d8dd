"""Read a model from a folder and segment an image: one class per pixel, segments, and instances.

No trained weights ship with this package. The model saved here has random ones, so its masks mean nothing. Put the
output folder of a run, a weights file or a hub id in place of ``folder``. Run it with
``python examples/segment_an_image.py``; it writes ``classes.png`` to the current folder.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.inference import segment

torch.manual_seed(0)
rows, columns = np.mgrid[0:240, 0:320]
image = Image.fromarray(np.stack([rows, columns // 2, (rows + columns) // 3], -1).astype(np.uint8))

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary, "model")
    build_model("digits", num_classes=4).save_pretrained(folder)
    model = MaskFormer.from_pretrained(folder)

# `image` may be a path, a PIL image, an array (H, W, 3), a tensor (3, H, W), or a list of these. Single options, as
# `min_size`, replace those that came with the weights, `model.recipe.inference`.
semantic = segment(model, image, task="semantic", min_size=192)
print("class map", tuple(semantic.class_map.shape), "classes", semantic.class_map.unique().tolist())

panoptic = segment(model, image, task="panoptic", thing_classes=[2, 3], min_size=192, object_mask_threshold=0.0)
for part in panoptic.segments_info[:3]:
    print("segment", part["id"], "class", part["category_id"], "score", round(part["score"], 2), "pixels", part["area"])

# Large images are cut into tiles that overlap; memory then follows the tile.
instances = segment(model, image, task="instance", top_k=5, min_size=192, tile=128)
print(len(instances.scores), "instances; best score", round(float(instances.scores.max()), 2))
print("masks", tuple(instances.masks.shape), "boxes", tuple(instances.boxes.shape))

palette = np.array([[68, 1, 84], [49, 104, 142], [53, 183, 121], [253, 231, 37]], np.uint8)
Image.fromarray(palette[semantic.class_map.numpy()]).save("classes.png")
print("wrote classes.png")
