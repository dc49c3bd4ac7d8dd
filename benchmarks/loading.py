"""Measure how many images of COCO panoptic are decoded and augmented to 640x640 per second, and what bounds that.

    python -m benchmarks.loading [--root COCO] [--workers 2] [--seconds 20] [--batches 24] [--size 640] [--color]

`--root` is a folder of COCO, or one with the two examples of the panoptic API. Without it, photographs and panoptic
PNGs of COCO's usual size are drawn first, with noise and segments with bent borders. Decoding them is work of the same
kind, but they are not COCO. The output names which images were read.

1. Each stage of an image's way is timed in this process on one thread, stage after stage and batch after batch. Times
   are processor time, which other programs disturb little: medians and quartiles over batches of 8. Their sum gives
   images per CPU-second. That rate times the workers is what the loader can reach if nothing competes for the cores.
2. The training loader itself runs, in time by the clock, which means something only on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image, ImageFilter

from maskformer_ext.config import AugmentationConfig, Config, DataConfig
from maskformer_ext.data import build_dataset, build_loader
from maskformer_ext.data.augmentation.colors import jitter_colors
from maskformer_ext.data.augmentation.transforms import Augment
from maskformer_ext.data.collate import Collate
from maskformer_ext.data.formats.labels import read_color_ids
from maskformer_ext.data.readers.coco_panoptic import CocoPanoptic
from maskformer_ext.data.streams import Item
from maskformer_ext.data.types import Sample
from maskformer_ext.media.images import read_image

_DRAWN = 64
_SIZE = (480, 640)  # height and width of most of COCO's photographs
_SEGMENTS = 11  # per image, on average
_WARM_UP = 4  # batches
_BATCH = 8
_COLORS = "colours"
_NORMALISE = "normalise"
_NOT_COUNTED = {
    _COLORS: "COCO's recipes have none; --color",
    _NORMALISE: "where the network runs, not in the workers",
}
STAGES = (
    "JPEG to pixels",
    "PNG to ids",
    "ids to segments",
    "resize, crop, flip",
    _COLORS,
    "pad into a batch",
    "copy to the main process",
    _NORMALISE,
)


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
    """Return the configuration to measure: panoptic targets, resize, crop, flip, and colours with `color`."""
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
    """Return the images per second of the training loader, once its workers are busy."""
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


def stage_times(config: Config, batches: int) -> dict[str, list[float]]:
    """Return, for each stage and batch, the milliseconds of processor time per image, on one thread.

    Args:
        config: from `loading_config`. Its batches are loaded without colours.
        batches: how many to time, after one that is not counted.
    """
    dataset = build_dataset(config.data, "train")
    assert isinstance(dataset, CocoPanoptic)
    augment = Augment(replace(config.data.augmentation, color=False), drop_empty_segments=False)
    size = config.data.augmentation.crop_size
    collate = Collate(pixel_mean=[120.0] * 3, pixel_std=[58.0] * 3, size_divisibility=32, crop_size=size)
    times: dict[str, list[float]] = {}

    def timed(stage: str, function: Callable[..., Any], *values: Any) -> Any:
        started = time.process_time()
        result = function(*values)
        times[stage][-1] += 1e3 * (time.process_time() - started) / _BATCH
        return result

    for batch in range(batches + 1):
        for stage in STAGES:
            times.setdefault(stage, []).append(0.0)
        items = []
        for k in range(batch * _BATCH, (batch + 1) * _BATCH):
            file_name, png, size, segments, _ = dataset.records[k % len(dataset)]
            image = timed("JPEG to pixels", read_image, dataset.images / file_name)
            ids = timed("PNG to ids", read_color_ids, dataset.folder / png)
            owners, labels, _ = timed("ids to segments", dataset.segments, ids, segments, dataset.folder / png)
            sample = Sample(image, owners, labels, file_name, (size[0], size[1]))
            augmented = timed("resize, crop, flip", augment, sample, torch.Generator().manual_seed(k))
            timed(_COLORS, jitter_colors, augmented.image, torch.Generator().manual_seed(k))
            items.append(Item(augmented, []))
        result = timed("pad into a batch", collate, items)
        for tensor in (result.pixels, result.targets.segment_map):
            timed("copy to the main process", tensor.share_memory_)
        timed(_NORMALISE, result.normalized)
    return {stage: values[1:] for stage, values in times.items()}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the two quartiles."""
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": median, "q1": q1, "q3": q3}


@contextlib.contextmanager
def coco_root(root: str | None) -> Iterator[Path]:
    """Yield the named folder in COCO's layout, or one with a drawn set. Either lasts as long as the context."""
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            yield draw_coco(Path(folder) / "coco")
        elif (source := Path(root).resolve() / "panoptic_examples").is_dir():
            (Path(folder) / "annotations").mkdir()
            (Path(folder) / "train2017").symlink_to(source.with_name("input_images"))
            (Path(folder) / "annotations" / "panoptic_train2017").symlink_to(source)
            (Path(folder) / "annotations" / "panoptic_train2017.json").symlink_to(source.with_suffix(".json"))
            yield Path(folder)
        else:
            yield Path(root)


def _format(values: dict[str, float], digits: int) -> str:
    median, q1, q3 = (f"{values[key]:.{digits}f}" for key in ("median", "q1", "q3"))
    return f"{median:>7} {f'({q1} to {q3})':<18}"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print a table and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of COCO with train2017 and panoptic annotations; default: a drawn set")
    parser.add_argument("--workers", type=int, default=2, help="processes that load")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the loader is timed; 0: not at all")
    parser.add_argument("--batches", type=int, default=24, help="how many batches of 8 the stages are timed over")
    parser.add_argument("--size", type=int, default=640, help="side of the crops in pixels")
    parser.add_argument("--color", action="store_true", help="with colour jitter, which COCO's recipe lacks")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in the workers
    with coco_root(options.root) as root:
        config = loading_config(root, size=options.size, workers=options.workers, color=options.color)
        times = stage_times(config, options.batches)
        rate = loader_rate(config, options.seconds) if options.seconds else None
    left_out = {stage: why for stage, why in _NOT_COUNTED.items() if not (stage == _COLORS and options.color)}
    counted = [values for stage, values in times.items() if stage not in left_out]
    each = np.sum(counted, axis=0)
    per_core = quartiles(1e3 / each)
    record = {
        "images": "drawn, in COCO's size" if options.root is None else Path(options.root).name,
        "crop": options.size,
        "color": options.color,
        "workers": options.workers,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "stages_cpu_ms": {stage: quartiles(values) for stage, values in times.items()},
        "image_cpu_ms": quartiles(each),
        "images_per_cpu_second": per_core,
        "images_per_second": rate,
    }
    print(f"images: {record['images']}; crops of {options.size}; load of the machine: {record['load_average']:.1f}\n")
    print("processor time per image, in ms: median (quartiles)")
    for stage, values in times.items():
        why = f" (not counted: {left_out[stage]})" if stage in left_out else ""
        print(f"{_format(quartiles(values), 2)}  {stage}{why}")
    print(f"{_format(quartiles(each), 2)}  per image in all")
    print(f"{_format(per_core, 1)}  images per CPU-second of one core")
    if rate is not None:
        print(f"\n{rate:.1f} images/s by the clock, {options.workers} workers on {record['cores']} cores")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    main()
