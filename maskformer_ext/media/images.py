"""Images as arrays and tensors of 8-bit RGB: read, resized as at test time, normalised, written."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import writing
from maskformer_ext.media.decoding import as_stored, open_image, upright

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 258, 262, 284  # tags of TIFF
_WHITE_IS_ZERO, _APART = 0, 2
_STRIP_PIXELS = 1 << 22  # of an image that Pillow copies at a time
_WHOLE_PIXELS = 1 << 25  # of images that Pillow resizes whole, the longer way first in some of its versions
_SIXTEEN_BIT = ("PNG", "PPM")  # formats of at most 16 bits per channel, which Pillow may give as 32


def read_rgb(path: str | os.PathLike[str], *, exif: bool = True) -> np.ndarray:
    """Read an image file upright, as its Exif orientation says.

    Args:
        path: any format that Pillow reads.
        exif: False: as the pixels are stored, whatever the orientation says.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: if the file does not exist or is no complete image.
    """
    with open_image(path) as image:
        tags: Any = getattr(image, "tag_v2", {})
        bits, photometric = tags.get(_BITS_PER_SAMPLE, ()), tags.get(_PHOTOMETRIC)
        if len(bits) > 1 and max(bits) > 8 and tags.get(_PLANES) == _APART:  # of which Pillow reads wrong bytes
            raise ValueError(f"its channels of {max(bits)} bits are stored apart: store them together, or 8 bits")
        turned = upright(image) if exif else as_stored(image)
        if bits in ((12,), (16,)) and turned.mode.startswith("I;16"):  # their numbers come as they are
            levels = (np.asarray(turned) >> (bits[0] - 8)).astype(np.uint8)
            turned = Image.fromarray(255 - levels if photometric == _WHITE_IS_ZERO else levels)
        return pil_to_rgb(turned)


def read_image(path: str | os.PathLike[str], *, exif: bool = True) -> Tensor:
    """Read an image file as a tensor (3, H, W); arguments and errors are those of `read_rgb`."""
    return to_tensor(read_rgb(path, exif=exif))


def to_tensor(rgb: np.ndarray) -> Tensor:
    """Return an array (H, W, 3) as a tensor (3, H, W) on the same memory: the channels of a pixel lie together."""
    return torch.from_numpy(rgb).permute(2, 0, 1)


def png_bytes(picture: Image.Image, *, compress_level: int = 4) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG that appears under its name when it is whole; the folders above it are made."""
    with writing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=4)


def pil_to_rgb(image: Image.Image) -> np.ndarray:
    """Return a Pillow image as (H, W, 3) uint8 RGB; 16-bit grey keeps its 8 upper bits.

    Raises:
        ValueError: if it holds floats, or 32-bit integers beyond 255: which range they use is not known.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode == "F" or (image.mode == "I" and np.ptp(np.append(np.asarray(image), (0, 255))) > 255):
        raise ValueError(f"an image must have 8 or 16 bits per channel, got the mode {image.mode}: convert it first")
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top, bottom in _strips(image.height, image.width):  # Pillow copies what it gives away, twice
        strip = image if bottom - top == image.height else image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return pixels


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last row, exclusive, of strips of an image."""
    step = max(1, _STRIP_PIXELS // max(1, width))
    return ((top, min(top + step, height)) for top in range(0, height, step))


def to_pixels(image: Any) -> Tensor:
    """Return an image in any of the accepted forms as (3, H, W) uint8 RGB.

    Args:
        image: a path, a PIL image, a NumPy array (H, W, 3) or (H, W) uint8, or a tensor (3, H, W) uint8.

    Raises:
        ValueError: if an array or tensor is of another shape or dtype.
        TypeError: if it is something else.
        UserError: if a path is not a readable image, or an address.
    """
    if isinstance(image, str) and "://" in image:
        raise UserError(f"{printable(image)} is an address, not a file: download it, or run predict with input=ADDRESS")
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        pixels = to_tensor(pil_to_rgb(image))
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            raise ValueError(f"image must be (H, W, 3) or (H, W) uint8 as an array, got {image.shape} {image.dtype}")
        channels = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
        pixels = torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))
    elif isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
            raise ValueError(f"image must be (3, H, W) uint8 as a tensor, got {tuple(image.shape)} {image.dtype}")
        pixels = image
    else:
        raise TypeError(f"image must be a path, a PIL image, an array or a tensor, got {type(image).__name__}")
    if 0 in pixels.shape:
        raise ValueError(f"image must have pixels, got (3, H, W) = {tuple(pixels.shape)}")
    return pixels


def normalize(
    pixels: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Return pixels as a network wants them: the mean of each channel subtracted, divided by its standard deviation.

    Args:
        pixels: (B, 3, H, W) uint8.
        mean: (3,) float32 in grey levels, on the same device.
        std: (3,) likewise.
        memory_format: of the result, (B, 3, H, W) float32.
    """
    images = pixels.to(torch.float32, memory_format=memory_format, copy=True)
    return images.sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))


def shortest_edge_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Return the height and width, in pixels, that `resize_shortest_edge` gives an image."""
    scale = min_size / min(height, width) if min_size else 1.0
    sides = (height * scale, width * scale)
    if max_size and max(sides) > max_size:  # two steps, as their roundings decide the size
        scale = max_size / max(sides)
        sides = (sides[0] * scale, sides[1] * scale)
    return max(1, int(sides[0] + 0.5)), max(1, int(sides[1] + 0.5))


def resize_shortest_edge(pixels: Tensor, min_size: int, max_size: int) -> Tensor:
    """Resize so that the shortest side is ``min_size``, or smaller where the longest would pass ``max_size``.

    Args:
        pixels: (3, H, W) uint8.
        min_size: in pixels; 0 keeps the size.
        max_size: in pixels; 0 = no limit.

    Returns:
        (3, h, w) uint8, by Pillow's antialiased bilinear filter.
    """
    size = shortest_edge_size(pixels.shape[-2], pixels.shape[-1], min_size, max_size)
    if size == tuple(pixels.shape[-2:]):
        return pixels
    return to_tensor(_resize_rgb(pixels.permute(1, 2, 0).cpu().numpy(), size)).contiguous().to(pixels.device)


def resize_rgb_shortest_edge(rgb: np.ndarray, min_size: int, max_size: int) -> Tensor:
    """Return an image (H, W, 3) uint8 as `resize_shortest_edge` would, (3, h, w), without a turn through a tensor."""
    size = shortest_edge_size(rgb.shape[0], rgb.shape[1], min_size, max_size)
    return to_tensor(rgb) if size == rgb.shape[:2] else to_tensor(_resize_rgb(rgb, size)).contiguous()


def _resize_rgb(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = rgb.shape[:2]
    if height * width > _WHOLE_PIXELS:  # the width first, in strips without a copy of the image; Pillow rounds between
        narrow = np.empty((height, size[1], 3), dtype=np.uint8)
        for top, bottom in _strips(height, width):
            narrow[top:bottom] = np.asarray(_resize(np.ascontiguousarray(rgb[top:bottom]), (bottom - top, size[1])))
        rgb = narrow
    return np.array(_resize(rgb, size))  # a copy: Pillow's memory is read-only


def _resize(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
