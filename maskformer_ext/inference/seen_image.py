"""One run of the network, many results: what it said of an image is kept, and every threshold is tried on that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from maskformer_ext.config import InferenceConfig
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.inference.large_images import join_tiles, run_tiles
from maskformer_ext.inference.network import batch_of, run_network
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.results import Result
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.inference.settings import settings_of, things_of
from maskformer_ext.inference.tiles import Tile, make_tiles
from maskformer_ext.media.images import resize_shortest_edge, to_pixels


@dataclass(frozen=True)
class SeenImage:
    """What the network said of one image.

    Attributes:
        tiles: that the image was cut into; one of its size where it was not cut.
        outputs: of the network, one per tile.
        shape: height and width of the image after the resize of test time, which ``tiles`` lie in.
        size: height and width of the image.
        config: the options that it was run with.
        things: ids of the classes that are told apart where a caller names none; None: all classes.
    """

    tiles: tuple[Tile, ...]
    outputs: tuple[QueryOutput, ...]
    shape: tuple[int, int]
    size: tuple[int, int]
    config: InferenceConfig
    things: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """How much memory the outputs take."""
        tensors = [output.mask_logits for output in self.outputs]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @torch.inference_mode()
    def segment(
        self,
        task: str = "semantic",
        *,
        size: tuple[int, int] | None = None,
        thing_classes: Collection[int] | None = None,
        **options: Any,
    ) -> Result:
        """Return what `segment` would for the image, without another run of the network.

        Args:
            task: "semantic", "instance" or "panoptic".
            size: height and width of the result; None: those of the image.
            thing_classes: as in `segment`.
            options: thresholds, ``resize``, ``semantic`` and ``top_k`` of ``InferenceConfig``. What decides how the
                network is run, such as ``tile``, stays as it was.

        Raises:
            ValueError: if ``task`` is unknown or the model cannot do it.
            TypeError: if an option is not one of these.
        """
        if task not in TASKS:
            raise ValueError(f"segment: task must be one of {', '.join(TASKS)}, got {task!r}")
        if fixed := _FIXED & options.keys():
            raise TypeError(f"segment: {min(fixed)} decides how the network is run, and it was run already")
        things = self.things if thing_classes is None else thing_classes
        reduce = Reducer([task], things, replace(self.config, **options))
        size = size or self.size
        laps = Laps(self.outputs[0].mask_logits.device)
        if len(self.tiles) == 1:
            return reduce(self.outputs[0], size, laps)[task]
        pairs = zip(self.tiles, self.outputs, strict=True)
        return join_tiles(pairs, list(self.tiles), self.shape, size, reduce, laps)[task]


_FIXED = {"tile", "tta", "tta_min_sizes", "tta_max_size", "tta_flip", "min_size", "max_size", "precision"}


@torch.inference_mode()
def see(model: nn.Module, image: Any, config: InferenceConfig | None = None, *, batch_size: int = 1) -> SeenImage:
    """Run the network on an image, in tiles where ``config.tile`` asks for them, and keep what it said.

    Args:
        model: a ``MaskFormer`` or ``PerPixelBaseline``; it is run in evaluation mode.
        image: one image in any form that `segment` takes.
        config: options for inference; None: those of ``model.recipe``, or the defaults where the model has none. One
            view is run, whatever ``tta`` says.
        batch_size: how many tiles go through the network at once.

    Raises:
        ValueError, TypeError: if the image is of another form.
        UserError: if a path is not a readable image.
    """
    config = settings_of(model, config, {})
    pixels = to_pixels(image)
    resized = resize_shortest_edge(pixels, config.min_size, config.max_size if not config.tile else 0)
    shape = (resized.shape[-2], resized.shape[-1])
    was_training = model.training
    model.eval()
    try:
        if config.tile and max(shape) > config.tile:
            laps = Laps(resized.device)  # which nobody reads
            pairs = list(run_tiles(model, resized, make_tiles(*shape, config.tile), batch_size, laps, config.precision))
        else:
            pairs = [(Tile(0, 0, *shape), run_network(model, batch_of([resized]), precision=config.precision)[0])]
    finally:
        model.train(was_training)
    tiles, outputs = zip(*pairs, strict=True)
    things = things_of(getattr(model, "dataset_info", None))
    return SeenImage(tiles, outputs, shape, (pixels.shape[-2], pixels.shape[-1]), config, things)
