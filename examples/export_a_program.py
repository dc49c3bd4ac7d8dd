"""Export a model with its post-processing to one program that runs without this package.

The model has random weights here; ``checkpoint=`` takes the output folder of a run, too. ``output=model.onnx`` writes
ONNX: see ``run_an_onnx_file.py``. Run it with ``python examples/export_a_program.py``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from maskformer_ext import build_model

torch.manual_seed(0)

with tempfile.TemporaryDirectory() as temporary:
    folder, program = Path(temporary, "model"), Path(temporary, "model.pt2")
    build_model("digits", num_classes=4).save_pretrained(folder)
    # The command runs what it wrote, and compares it with the network. Without size= it takes images of any size.
    arguments = [f"checkpoint={folder}", f"output={program}", "size=96x128"]
    subprocess.run([sys.executable, "-m", "maskformer_ext.export", *arguments], check=True)

    run = torch.export.load(program).module()

images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)  # RGB, of the size that was exported
results = run(images)
for name, values in results.items():
    print(name, tuple(values.shape), values.dtype)
