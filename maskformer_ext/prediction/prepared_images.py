"""What is kept of an image while the network works: its input, and the ground of the overlay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from maskformer_ext.config import InferenceConfig
from maskformer_ext.media.images import resize_rgb_shortest_edge, to_tensor
from maskformer_ext.prediction.input_images import InputImage
from maskformer_ext.prediction.result_files import overlay_ground


@dataclass(frozen=True)
class PreparedImage:
    """An image, ready for the network and for the overlay.

    Attributes:
        image: what it is called; its own pixels are not kept.
        size: its height and width.
        pixels: (3, h, w) uint8, what `segment` gets.
        ground: (h, w, 3) uint8, what the overlay is drawn on.
        whole: (H, W, 3) uint8, the image for the pictures of queries; None where they are not drawn.
    """

    image: InputImage
    size: tuple[int, int]
    pixels: Tensor
    ground: np.ndarray
    whole: np.ndarray | None


class Preparation:
    """Resize each image once for the network and once for the overlay, so that a large one need not be kept.

    Tiles and views (test-time augmentation) are cut from the whole image, which stays for them.

    Args:
        settings: of inference.
        overlay_size: longer side of the overlays at most.
        queries: whether pictures of queries are drawn.

    Attributes:
        settings: what is left to do for `segment`.
    """

    def __init__(self, settings: InferenceConfig, overlay_size: int, *, queries: bool) -> None:
        self._limits = None if settings.tile or settings.tta else (settings.min_size, settings.max_size)
        self._overlay_size, self._queries = overlay_size, queries
        self.settings = settings if self._limits is None else replace(settings, min_size=0, max_size=0)

    def __call__(self, image: InputImage) -> PreparedImage:
        """Prepare an image that was read."""
        rgb = image.rgb
        assert rgb is not None
        return PreparedImage(
            replace(image, rgb=None),
            (rgb.shape[0], rgb.shape[1]),
            to_tensor(rgb) if self._limits is None else resize_rgb_shortest_edge(rgb, *self._limits),
            overlay_ground(rgb, self._overlay_size),
            rgb if self._queries else None,
        )
