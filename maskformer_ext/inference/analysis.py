"""How large, how costly and how fast the model of a recipe is, and what the paper reports of it."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import Config
from maskformer_ext.config.load import available_configs, find_config, load_config
from maskformer_ext.inference import segment
from maskformer_ext.modeling.outputs import MaskFormerOutput

_PAPER = re.compile(r"^# paper: (?P<figures>.+)$", re.MULTILINE)
_FIGURE = re.compile(r"(?P<name>mIoU|PQ|FLOPs|fps) (?P<value>[\d.]+)")


@dataclass(frozen=True)
class PaperFigures:
    """What the paper reports; None where that is not known here.

    Attributes:
        metric: "mIoU" or "PQ".
        score: of the metric, in percent, at one scale.
        gflops: billions of multiply-adds.
        images_per_second: on one V100, with post-processing.
    """

    metric: str
    score: float | None
    gflops: float | None
    images_per_second: float | None


def analyze_recipe(
    recipe: str, overrides: Sequence[str], size: tuple[int, int] | None, *, device: str, repeats: int
) -> dict[str, Any]:
    """Return how large, how costly and how fast the model of a recipe is, beside the paper's figures.

    Args:
        recipe: a name or a YAML file.
        overrides: ``key=value`` for its configuration.
        size: height and width of the image; None: as `input_size` says.
        device: where it is timed.
        repeats: timed images; 0: none.
    """
    config = load_config(recipe, overrides)
    size = size or input_size(config)
    parameters, gflops = count_operations(config, size)
    speed = measure_speed(config, size, device=device, repeats=repeats) if repeats else None
    paper = paper_figures(recipe)
    return {
        "recipe": recipe,
        "size": list(size),
        "parameters": parameters,
        "gflops": gflops,
        "images_per_second": speed,
        "paper": vars(paper) if paper else None,
    }


def original_recipes() -> list[str]:
    """List the recipes of the original: those that quote the paper."""
    return [name for name in available_configs() if paper_figures(name) is not None]


def paper_figures(recipe: str) -> PaperFigures | None:
    """Read the figures that the first lines of a recipe quote from the paper; None if it quotes none.

    Args:
        recipe: a name or a YAML file.
    """
    line = _PAPER.search(find_config(recipe).read_text(encoding="utf-8"))
    if line is None:
        return None
    figures = {match["name"]: float(match["value"]) for match in _FIGURE.finditer(line["figures"])}
    metric = "PQ" if line["figures"].startswith("PQ") else "mIoU"
    return PaperFigures(metric, figures.get(metric), figures.get("FLOPs"), figures.get("fps"))


def input_size(config: Config) -> tuple[int, int]:
    """Return height and width of the image that a recipe is analysed with.

    It is the training crop, as in the paper. Recipes without one train and test on whole images, for which the paper
    averages over the validation set: an image of 3 : 2 at the test size stands in.
    """
    if config.data.augmentation.crop_size:
        height, width = config.data.augmentation.crop_size
        return height, width
    side = config.inference.min_size or config.data.image_size
    return side, side * 3 // 2


def count_operations(config: Config, size: tuple[int, int]) -> tuple[int, float]:
    """Count the parameters of a recipe's model, and the multiply-adds of one image.

    Convolutions and matrix products count, up to the mask logits of the last layer. Shapes alone decide: nothing is
    computed, and no memory for weights is taken.

    Args:
        config: the recipe.
        size: height and width; rounded up to what the model pads to.

    Returns:
        The number of parameters, and billions of multiply-adds.
    """
    multiple = max(1, config.model.size_divisibility)
    height, width = (-(-side // multiple) * multiple for side in size)
    with torch.device("meta"):
        model: nn.Module = build_model(config).eval().requires_grad_(False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            out = model(torch.empty(1, 3, height, width))
            if isinstance(out, MaskFormerOutput):
                out.mask_logits()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, counter.get_total_flops() / 2e9  # an addition and a multiplication are two operations


def measure_speed(config: Config, size: tuple[int, int], *, device: str, repeats: int) -> float:
    """Measure how many images per second a recipe's model segments, one by one, post-processing included.

    The weights are fresh: a semantic result costs the same with any weights, a panoptic one somewhat less with these,
    since few queries are kept.

    Args:
        config: the recipe.
        size: height and width of the images.
        device: where to run.
        repeats: timed images, after one that is not; the median counts.
    """
    model = build_model(config).to(device).eval()
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    options = replace(config.inference, min_size=0, tile=0, tta=False)
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        segment(model, image, task=config.data.task, config=options)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds[1:])
