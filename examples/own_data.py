"""Own images with one mask per object: look at them, train, score and predict, with the commands.

``python examples/own_data.py my_images`` only draws a data set of shapes there, for the tutorial (docs/tutorials).
``python examples/own_data.py`` goes the whole way in a temporary folder, with a training of seconds.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

COLORS = {"coin": (196, 160, 84), "button": (72, 120, 178)}


def draw(generator: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Draw coins and square buttons on wood. In the labels an id is class x 1000 + number, and 0 is the wood."""
    grain = generator.normal(0, 14, (192, 1)) + generator.normal(0, 5, (192, 256))
    image = Image.fromarray((np.array([150, 112, 80]) + grain[..., None]).clip(0, 255).astype(np.uint8))
    labels = np.zeros((192, 256), np.uint16)
    for number in range(int(generator.integers(4, 10))):
        kind = int(generator.integers(2))
        x, y, side = (int(generator.integers(*limits)) for limits in ((-8, 220), (-8, 160), (24, 56)))
        mask = Image.new("L", image.size)
        shape = ImageDraw.Draw(mask).ellipse if kind == 0 else ImageDraw.Draw(mask).rectangle
        shape((x, y, x + side, y + side), fill=255)
        color = np.array(list(COLORS.values())[kind]) + generator.integers(-25, 25, 3)
        image.paste(tuple(int(value) for value in color), mask=mask.filter(ImageFilter.GaussianBlur(1)))
        labels[np.asarray(mask) > 0] = (kind + 1) * 1000 + number  # the later one lies on top
    return image, Image.fromarray(labels)


def draw_data_set(root: Path) -> None:
    """Write 60 images for training and 12 for validation, with their labels and the names of the classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 12)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            image, labels = draw(generator)
            image.save(root / split / "images" / f"{number:02}.png")
            labels.save(root / split / "labels" / f"{number:02}.png")
    (root / "classes.json").write_text(json.dumps({"things": list(COLORS), "id_divisor": 1000}))


def command(*arguments: str) -> None:
    """Run a command as a shell would, and show it."""
    print(f"\n$ maskformer-ext {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "maskformer_ext", *arguments], check=True)


if len(sys.argv) > 1:
    draw_data_set(Path(sys.argv[1]))
    print(f"drew 72 images below {sys.argv[1]}")
else:
    with tempfile.TemporaryDirectory() as folder:
        data, run, seen = f"{folder}/my_images", f"{folder}/run", f"{folder}/predictions"
        draw_data_set(Path(data))
        quick = ["train.max_iters=4", "train.batch_size=2", "data.num_workers=0", "model.backbone_weights=null"]
        command("prepare", data)
        command("train", "config=folder", f"data.root={data}", f"output_dir={run}", *quick)
        command("evaluate", f"checkpoint={run}")
        command("predict", f"checkpoint={run}", f"input={data}/val/images", f"output={seen}")
        print("\n".join(sorted(path.name for path in Path(seen).iterdir())))
