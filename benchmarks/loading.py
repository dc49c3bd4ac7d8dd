"""Images a second of COCO panoptic decoding and augmentation at 640x640, and what bounds them.

    python -m benchmarks.loading [--root COCO] [--workers 2] [--seconds 20] [--size 640] [--color]

Without `--root`, photographs and panoptic PNGs of COCO's usual size are drawn first, with noise and segments with bent
borders. Decoding them is work of the same kind, but they are not COCO: what is printed says which was read.
The rate is that of the training loader, batches included, after the first ones. Then each stage runs alone in this
process; their sum, divided by the workers, is what the loader can reach if nothing else competes for the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from maskformer_ext.config import AugmentationConfig, Config, DataConfig
from maskformer_ext.data import build_dataset, build_loader
from maskformer_ext.data.coco_panoptic import CocoPanoptic
from maskformer_ext.data.loader import Collate, Item
from maskformer_ext.data.pairs import read_color_ids
from maskformer_ext.data.transforms import Augment
from maskformer_ext.images import read_image

_DRAWN = 64
_SIZE = (480, 640)  # height and width of most of COCO's photographs
_SEGMENTS = 11  # an image, on average
_WARM_UP = 4  # batches
_BATCH = 8


def draw_coco(root: Path, count: int = _DRAWN, size: tuple[int, int] = _SIZE) -> Path:
    """Write a set in COCO's panoptic layout: Voronoi regions as segments, blurred noise over them as photographs.

    Args:
        root: the folder to write to.
        count: how many images.
        size: their height and width in pixels.
    """
    random = np.random.default_rng(0)
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    folders = [root / "train2017", root / "annotations" / "panoptic_train2017"]
    for folder in folders:
        folder.mkdir(parents=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for number in range(1, count + 1):
        centres = random.uniform((0, 0), size, (_SEGMENTS, 2))
        # Bent borders: straight ones would make the PNGs smaller than real ones.
        bend = 12 * np.sin(rows / 17 + number) + 9 * np.cos(columns / 11)
        owner = np.argmin([(rows + bend - y) ** 2 + (columns + bend - x) ** 2 for y, x in centres], axis=0)
        ids = random.choice(np.arange(1, 1 << 24), _SEGMENTS, replace=False)
        colors = ids[owner][..., None] >> np.array([0, 8, 16]) & 255
        Image.fromarray(colors.astype(np.uint8)).save(folders[1] / f"{number:012d}.png")
        noise = random.normal(0, 60, (*size, 3)) + random.uniform(60, 200, (_SEGMENTS, 3))[owner]
        photograph = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.9))
        photograph.save(folders[0] / f"{number:012d}.jpg", quality=93)
        present = [int(ids[index]) for index in np.unique(owner)]
        segments = [{"id": i, "category_id": 1 + n % 2, "iscrowd": 0} for n, i in enumerate(present)]
        image = {"id": number, "file_name": f"{number:012d}.jpg", "height": size[0], "width": size[1]}
        content["images"].append(image)
        annotation = {"image_id": number, "file_name": f"{number:012d}.png", "segments_info": segments}
        content["annotations"].append(annotation)
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    return root


def loading_config(root: Path, *, size: int, workers: int, color: bool = False) -> Config:
    """Return the configuration that is measured: panoptic targets, resize, crop, flip, and colours if asked for."""
    augmentation = AugmentationConfig(
        min_sizes=[round(size * scale / 10) for scale in range(5, 21)],
        max_size=4 * size,
        crop_size=[size, size],
        color=color,
        horizontal_flip=True,
    )
    data = DataConfig(
        name="coco_panoptic", root=str(root), task="panoptic", num_workers=workers, augmentation=augmentation
    )
    config = Config(data=data)
    config.train.batch_size, config.train.max_iters = _BATCH, 1_000_000
    return config


def loader_rate(config: Config, seconds: float) -> float:
    """Return images a second of the training loader, once its workers are busy."""
    loader = build_loader(config, "train", pin_memory=False)
    batches = iter(loader)
    try:
        for _ in range(_WARM_UP):
            next(batches)
        started, images = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            images += len(next(batches))
        return images / (time.perf_counter() - started)
    finally:
        loader.close()


def stage_times(config: Config, repeats: int) -> dict[str, float]:
    """Return milliseconds an image (median) of each stage, run alone in this process on one thread."""
    dataset = build_dataset(config.data, "train")
    assert isinstance(dataset, CocoPanoptic)
    plain, coloured = (
        Augment(replace(config.data.augmentation, color=color), drop_empty_segments=False) for color in (False, True)
    )
    size = config.data.augmentation.crop_size
    collate = Collate(pixel_mean=[120.0] * 3, pixel_std=[58.0] * 3, size_divisibility=32, crop_size=size)
    times: dict[str, list[float]] = {}
    for k in range(repeats):
        file_name, png, _, _ = dataset.records[k % len(dataset)]
        sample = dataset[k % len(dataset)]

        def run(augmentation: Augment, k: int = k, sample: Any = sample) -> Any:
            return augmentation(sample, torch.Generator().manual_seed(k))

        augmented = run(plain)
        stages: dict[str, Callable[[], Any]] = {
            "JPEG to pixels": lambda name=file_name: read_image(dataset.images / name),
            "PNG to ids": lambda name=png: read_color_ids(dataset.folder / name),
            "whole sample (both, and ids to segments)": lambda k=k: dataset[k % len(dataset)],
            "resize, crop, flip": lambda run=run: run(plain),
            "resize, crop, flip, colours": lambda run=run: run(coloured),
            "normalise and pad": lambda augmented=augmented: collate([Item(augmented, [])]),
        }
        for name, stage in stages.items():
            started = time.perf_counter()
            stage()
            times.setdefault(name, []).append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


@contextlib.contextmanager
def coco_root(root: str | None) -> Iterator[Path]:
    """Give the folder that was named, or one with a drawn set that lasts as long as the context."""
    if root is not None:
        yield Path(root)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield draw_coco(Path(folder) / "coco")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print a table, and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of COCO with train2017 and panoptic annotations; default: a drawn set")
    parser.add_argument("--workers", type=int, default=2, help="processes that load")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the loader is timed")
    parser.add_argument("--size", type=int, default=640, help="side of the crops in pixels")
    parser.add_argument("--color", action="store_true", help="with colour jitter, which the recipe of COCO has not")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in the workers
    with coco_root(options.root) as root:
        config = loading_config(root, size=options.size, workers=options.workers, color=options.color)
        rate = loader_rate(config, options.seconds)
        stages = stage_times(config, repeats=max(3, min(64, round(4 * options.seconds))))
    each = stages["whole sample (both, and ids to segments)"]
    each += (
        stages["resize, crop, flip, colours" if options.color else "resize, crop, flip"] + stages["normalise and pad"]
    )
    record = {
        "images": "drawn, in COCO's size" if options.root is None else "COCO",
        "crop": options.size,
        "color": options.color,
        "workers": options.workers,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "images_per_second": rate,
        "stages_ms": stages,
        "bound_images_per_second": 1e3 / each * max(1, options.workers),
    }
    print(f"{rate:.1f} images/s with {options.workers} workers on {record['cores']} cores, crops of {options.size}")
    print(f"images: {record['images']}; load of the machine: {record['load_average']:.1f}\n")
    for name, milliseconds in stages.items():
        print(f"{milliseconds:8.2f} ms  {name}")
    print(f"{each:8.2f} ms  an image in all: at most {record['bound_images_per_second']:.1f} images/s")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    main()
