"""Train on a folder of your own images with the commands, then predict: the whole way from pictures to results.

It writes images and label PNGs in the layout of the recipe ``semantic_folder`` (docs/data.md) to a temporary folder.
For real data leave out the overrides in ``quick``: they make a run of seconds. Run it with
``python examples/train_on_a_folder.py``.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def write_data(root: Path) -> None:
    """Write six images for training and two for validation, with one class id per pixel in the labels."""
    generator = np.random.default_rng(0)
    colors = np.array([[60, 110, 60], [200, 190, 90], [90, 90, 220]])
    for split, count in (("train", 6), ("val", 2)):
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
        for number in range(count):
            label = np.zeros((96, 128), np.uint8)  # 0: grass; 255 would be void
            row, column = generator.integers(0, 48, 2)
            label[row : row + 32, :] = 1  # path
            label[row : row + 40, column : column + 40] = 2  # pond
            pixels = (colors[label] + generator.integers(-30, 30, (96, 128, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{number}.png")
    (root / "classes.txt").write_text("grass\npath\npond\n")


def command(name: str, *arguments: str) -> None:
    """Run a command of the package as a shell would, and show it."""
    print(f"\n$ maskformer-ext {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"maskformer_ext.{name}", *arguments], check=True)


with tempfile.TemporaryDirectory() as folder:
    data, run, predictions = Path(folder, "data"), Path(folder, "run"), Path(folder, "predictions")
    write_data(data)
    quick = ["model.backbone_weights=null", "data.num_workers=0"]
    quick += ["train.max_iters=40", "train.batch_size=4", "optimizer.lr=1e-3", "schedule.warmup_iters=5"]
    command("train", "config=semantic_folder", f"data.root={data}", f"output_dir={run}", *quick)
    command("predict", f"checkpoint={run}", f"input={data / 'val' / 'images'}", f"output={predictions}")

    scores = json.loads((run / "metrics.json").read_text())
    print(f"\nmIoU {scores['mIoU']:.3f}, share of pixels with the right class {scores['pACC']:.3f}")
    print("class ids in the first prediction:", np.unique(np.asarray(Image.open(predictions / "ids" / "0.png"))))
    print("beside it:", ", ".join(sorted(path.name for path in predictions.iterdir())))
