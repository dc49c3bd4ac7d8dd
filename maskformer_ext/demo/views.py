"""What the network said of the pictures that are looked at: kept for the newest, within a bound of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from maskformer_ext.demo.media import MediaFolder
from maskformer_ext.demo.model import DemoModel
from maskformer_ext.inference.seen_image import SeenImage
from maskformer_ext.media.images import to_tensor
from maskformer_ext.pictures.sizes import LONG_SIDE, resize_image, shown_size

_MOST_BYTES = 1 << 30
_MAP_SIDE, _MOST_ENLARGED = 1024, 8
_MANY_CLASSES, _SMALLER_SIDES = 64, {True: 768, False: 512}  # by whether there are queries; a reduction's cost grows
_GROUND_SIDE, _SHORT_SIDE = 1600, 512


@dataclass(frozen=True)
class View:
    """A picture that the network has seen.

    Attributes:
        seen: what it said.
        ground: (h, w, 3) uint8, the picture for overlays, as large as a screen at most.
        milliseconds: that the network took.
        name: of the picture; of a frame, that of a picture file of its number.
    """

    seen: SeenImage
    ground: np.ndarray
    milliseconds: float
    name: str

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the maps that the page draws: of small pictures larger, so that borders are smooth."""
        height, width = self.seen.size
        logits = self.seen.outputs[0].class_logits
        classes = len(self.seen.outputs[0].mask_logits) if logits is None else logits.shape[-1] - 1
        side = _SMALLER_SIDES[logits is not None] if classes > _MANY_CLASSES else _MAP_SIDE
        scale = min(side / max(height, width), _MOST_ENLARGED)
        return max(1, round(height * scale)), max(1, round(width * scale))

    @property
    def shown(self) -> np.ndarray:
        """The picture (h, w, 3) that the page draws maps on."""
        return resize_image(self.ground, shown_size(*self.seen.size, short_side=_SHORT_SIDE, long_side=_GROUND_SIDE))


class Views:
    """Run the network once for every picture, and again only for those that were dropped to bound the memory.

    Args:
        model: that is shown.
        media: the files.
    """

    def __init__(self, model: DemoModel, media: MediaFolder) -> None:
        self._model, self._media = model, media
        self._views: OrderedDict[tuple[str, int], View] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, frame: int = 0) -> View:
        """Return what the network said of a picture or a frame.

        Raises:
            UserError: if the file is not kept any more or cannot be read.
        """
        medium = self._media.get(key)
        with self._lock:  # two requests for one picture run the network once
            view = self._views.get((key, frame))
            if view is None:
                rgb = medium.read(frame)
                seen, milliseconds = self._model.see(to_tensor(rgb))
                limit = shown_size(*rgb.shape[:2], long_side=LONG_SIDE)
                name = f"{PurePosixPath(medium.name).stem}_{frame:06d}.png" if medium.frames else medium.name
                view = View(seen, resize_image(rgb, limit), milliseconds, name)
                self._views[key, frame] = view
            self._views.move_to_end((key, frame))
            while len(self._views) > 1 and sum(map(_bytes, self._views.values())) > _MOST_BYTES:
                self._views.popitem(last=False)
            return view


def _bytes(view: View) -> int:
    return view.seen.bytes + view.ground.nbytes
