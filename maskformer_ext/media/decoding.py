"""The one place where image files are opened: every error of a decoder becomes one sentence that names the file."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError, features

from maskformer_ext.errors import UserError, printable, why

_LIMIT_VARIABLE = "MASKFORMER_EXT_MAX_PIXELS"  # an environment variable, so that loader processes know it too
_DEFAULT_LIMIT = 178_956_970  # beyond this many pixels Pillow takes a file for an attack
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_START = 24  # bytes of a PNG up to its height
_HEIF = (".heic", ".heif", ".hif")

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".avif", *_HEIF),
)
"""Endings of the files that are taken for images, in small letters."""


def limit_pixels(count: int | None) -> None:
    """Set how many pixels an image file may have, in this process and those that it starts.

    Args:
        count: the most pixels; None: Pillow's limit, 178,956,970.
    """
    if count is None:
        os.environ.pop(_LIMIT_VARIABLE, None)
    else:
        os.environ[_LIMIT_VARIABLE] = str(count)


@contextmanager
def open_image(path: str | os.PathLike[str], what: str = "an image") -> Iterator[Image.Image]:
    """Open an image file; its pixels are read when they are first needed.

    Args:
        path: any format that Pillow reads; HEIC where pillow-heif is installed.
        what: the file is read as, for the error.

    Raises:
        UserError: if the file is missing, no image, damaged or too large. Errors inside the block count as the file's.
    """
    path = Path(path)
    if not os.path.isfile(path):  # which is False for names that no file can have; Path's method raises
        raise UserError(f"{path}: no such {what.removeprefix('an ').removeprefix('a ')} file")
    try:
        _learn_heif(path)
        with warnings.catch_warnings(), _without_pillows_limit:
            warnings.simplefilter("ignore")  # about tags that nobody needs; damage to pixels raises
            with Image.open(path) as image:
                check_size(path, image.size)
                yield image
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly everything: struct.error, TypeError, ZeroDivisionError, ...
        raise UserError(f"{path}: cannot be read as {what} ({_why_unreadable(path, error)})") from None


def upright(image: Image.Image) -> Image.Image:
    """Read the pixels and turn them as the file's orientation says; damage to other tags does not matter."""
    orientation = _keep_pillow_from_turning(image)
    image.load()
    method = _UPRIGHT.get(orientation if orientation is not None else _orientation(image))
    if method is None:
        return image
    turned = image.transpose(method)
    turned.format = image.format  # which tells how wide its integers are
    return turned


def as_stored(image: Image.Image) -> Image.Image:
    """Read the pixels in the order in which they are stored, whatever the file's orientation says."""
    _keep_pillow_from_turning(image)
    image.load()
    return image


def _keep_pillow_from_turning(image: Image.Image) -> int | None:
    """Return the orientation of a TIFF, and take it out: where nothing is compressed Pillow turns the wrong pixels."""
    tags: Any = getattr(image, "tag_v2", None)
    orientation = None if tags is None else tags.get(_ORIENTATION)
    if orientation not in _UPRIGHT:
        return None
    image.getexif().pop(_ORIENTATION, None)
    image._size = (tags[_WIDTH], tags[_HEIGHT])  # newer versions have swapped them already
    return orientation


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged block: every viewer shows such a photo as it is stored
        return 1
    return orientation if isinstance(orientation, int) else 1


def check_size(path: object, size: tuple[int, int]) -> None:
    """Check that a file's width and height are within the limit of `limit_pixels`.

    Raises:
        UserError: if not; it says how to read the file all the same.
    """
    limit = int(os.environ.get(_LIMIT_VARIABLE, _DEFAULT_LIMIT))
    count = size[0] * size[1]
    if count > limit:
        raise UserError(
            f"{path}: has {size[0]}x{size[1]} = {count} pixels, more than the limit of {limit}: "
            f"if you trust the file, give max_pixels={count} (in training data.max_pixels={count})"
        )


class _WithoutPillowsLimit:
    """Lift Pillow's own limit, whose error names no way out, while any thread decodes; `check_size` has the same."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                Image.MAX_IMAGE_PIXELS = self._before


_without_pillows_limit = _WithoutPillowsLimit()


def _learn_heif(path: Path) -> None:
    if path.suffix.lower() not in _HEIF:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise UserError(f"{path}: reading HEIC needs pillow-heif: pip install 'maskformer-ext[heif]'") from None
    register_heif_opener()


def _why_unreadable(path: Path, error: BaseException) -> str:
    """Return in one line why a file is no image; Pillow only says that it is none where there are no pixels."""
    try:
        with path.open("rb") as file:
            start = file.read(_PNG_START)
    except OSError as problem:
        return why(problem)
    if not start:
        return "the file is empty"
    width, height = (int.from_bytes(start[offset : offset + 4], "big") for offset in (16, 20))
    if start.startswith(b"\x89PNG") and len(start) == _PNG_START and not (width and height):
        return f"it has {width}x{height} pixels"
    if path.suffix.lower() == ".avif" and not features.check("avif"):
        return "this Pillow reads no AVIF: pip install 'pillow>=11.3'"
    if isinstance(error, UnidentifiedImageError):  # whose text repeats the path
        return "it is damaged, or of a format or a depth that Pillow does not read"
    return why(error).replace(printable(path), "the file")
