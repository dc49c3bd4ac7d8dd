"""Small videos whose frames can be told apart."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


def write_clip(path: Path, codec: str = "libx264", frames: int = 8, size: tuple[int, int] = (48, 64)) -> Path:
    """Write a video whose n-th frame is grey of brightness 20 n modulo 240, with a red quarter at the top left."""
    av = pytest.importorskip("av")
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    index_first = (
        {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    )  # so that a cut file can be read up to the cut
    with av.open(str(path), "w", options=index_first) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        for number in range(frames):
            pixels = np.full((*size, 3), 20 * number % 240, np.uint8)
            pixels[: size[0] // 2, : size[1] // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
