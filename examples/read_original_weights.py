"""Read weights of the original implementation, and write them for this package and for transformers.

Nothing is downloaded: the example makes a state dict under the original's names first. With a file of the model zoo,
call ``MaskFormer.from_pretrained("weights.pkl", config=RECIPE)``: it reads the file, then does the same. Run it with
``python examples/read_original_weights.py``.
"""

import tempfile
from pathlib import Path

import torch

from maskformer_ext import MaskFormer, build_model
from maskformer_ext.checkpoints import load_original, original_name

RECIPE = "ade20k-150/maskformer_R50_bs16_160k"
torch.manual_seed(0)

source = build_model(RECIPE, num_classes=150).eval()
weights = {original_name(name): value for name, value in source.state_dict().items()}
print("the original's names, for instance", next(name for name in weights if "class_embed" in name))

model = build_model(RECIPE, num_classes=150).eval()
load_original(model, weights)  # every name and shape is checked; nothing is loaded where one does not fit

images = torch.randn(1, 3, 64, 64)
with torch.inference_mode():
    expected, got = source(images), model(images)
assert torch.equal(expected.class_logits, got.class_logits)
print("class logits", tuple(got.class_logits.shape), "are equal")

with tempfile.TemporaryDirectory() as folder:
    for layout in ("native", "hf"):  # "hf": transformers' MaskFormerForInstanceSegmentation.from_pretrained reads it
        saved = model.save_pretrained(Path(folder, layout), layout=layout)
        again = MaskFormer.from_pretrained(saved)
        with torch.inference_mode():
            assert torch.equal(again(images).class_logits, expected.class_logits)
        print(f"{layout}: wrote and read", ", ".join(sorted(path.name for path in saved.iterdir())))
