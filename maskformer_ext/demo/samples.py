"""Pictures that the page offers to begin with: those of a folder, or of the validation set of the model's run."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from maskformer_ext.config import DataConfig
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.decoding import limit_pixels
from maskformer_ext.media.extensions import EXTENSIONS
from maskformer_ext.media.images import read_rgb
from maskformer_ext.media.videos import VIDEO_EXTENSIONS, is_film
from maskformer_ext.pictures.sizes import resize_image, shown_size

_MOST = 12
_THUMB_SIDE = 224


class Samples:
    """A few pictures by number; each is read when it is asked for.

    Args:
        names: what the page calls them.
        load: returns one, as a path or as (H, W, 3) uint8.
    """

    def __init__(self, names: list[str], load: Callable[[int], Path | np.ndarray]) -> None:
        self.names, self._load = names, load

    def __len__(self) -> int:
        return len(self.names)

    def content(self, number: int) -> tuple[str, bytes]:
        """Return the name of a sample and the bytes of its file.

        Raises:
            UserError: if there is no such sample, or it cannot be read.
        """
        if not 0 <= number < len(self):
            raise UserError(f"there is no sample {number}: there are {len(self)}")
        loaded = self._load(number)
        if isinstance(loaded, Path):
            try:
                return loaded.name, loaded.read_bytes()
            except OSError as error:
                raise UserError(f"{loaded.name} cannot be read: {error.strerror}") from None
        return f"{Path(self.names[number]).stem}.png", _encoded(loaded, "PNG")

    def thumbnail(self, number: int) -> bytes:
        """Return a small JPEG of a sample; of a video it is empty.

        Raises:
            UserError: if it cannot be read.
        """
        loaded = self._load(number)
        if isinstance(loaded, Path):
            if is_film(loaded):
                return b""
            loaded = read_rgb(loaded)
        return _encoded(resize_image(loaded, shown_size(*loaded.shape[:2], long_side=_THUMB_SIDE)), "JPEG")


def samples_of_folder(folder: Path) -> Samples:
    """Offer the first pictures and videos of a folder, in the order of their names.

    Raises:
        UserError: if it is no folder, or has none.
    """
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"samples={printable(folder)} {problem}: give a folder of pictures")
    endings = (*EXTENSIONS, *VIDEO_EXTENSIONS)
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and _taken(entry.name, endings))
    if not found:
        raise UserError(f"samples={printable(folder)}: there is no picture in this folder")
    return Samples([printable(name) for name in found[:_MOST]], lambda number: folder / found[number])


def samples_of_data(config: DataConfig) -> Samples:
    """Offer pictures of the validation set of a run, spread over it; none where it is not on this machine.

    Args:
        config: ``data`` of the run.
    """
    from maskformer_ext.data.build import build_dataset

    limit = os.environ.get("MASKFORMER_EXT_MAX_PIXELS")
    try:
        dataset = build_dataset(config, "val")
        chosen = np.linspace(0, len(dataset) - 1, num=min(8, len(dataset)), dtype=int).tolist()
        names = [printable(dataset[index].name) for index in chosen]
    except (UserError, ImportError):
        return Samples([], lambda number: Path())
    finally:
        limit_pixels(int(limit) if limit else None)
    return Samples(names, lambda number: dataset[chosen[number]].image.permute(1, 2, 0).numpy())


def _taken(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings) and not name.startswith(".")


def _encoded(rgb: np.ndarray, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, format=format, quality=88)
    return buffer.getvalue()
