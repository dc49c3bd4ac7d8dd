"""Videos: their frames, upright and one at a time, and films of what was drawn over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageSequence

from maskformer_ext.errors import UserError, why
from maskformer_ext.files import writing
from maskformer_ext.media.decoding import check_size, open_image, upright

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_MAYBE_ANIMATED = (".gif", ".webp", ".apng", ".png", ".avif")
USUAL_RATE = Fraction(25)
"""Frames per second, where a source names none."""


def is_film(path: Path) -> bool:
    """Return by its ending whether a file is a video for PyAV, not an animated image."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def is_video(path: Path) -> bool:
    """Return whether a file holds several pictures: by its ending, and GIF, WebP and PNG by what is in them."""
    if is_film(path):
        return True
    if path.suffix.lower() not in _MAYBE_ANIMATED:
        return False
    try:
        with open_image(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except UserError:
        return False  # read_image says what is wrong


def read_frames(path: Path, *, stride: int = 1) -> Iterator[np.ndarray]:
    """Decode a video frame by frame, upright as its display matrix says: animated images by Pillow, all others by PyAV.

    Args:
        path: of the file.
        stride: yield every so-manyth frame, from the first one.

    Yields:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: if the file cannot be decoded, after the frames before the damage; or PyAV is needed and not
            installed. A Matroska or WebM file that was cut off just ends: it does not say how much it held.
    """
    from maskformer_ext.media.images import pil_to_rgb  # brings torch, which listing files does not need

    if not is_film(path):
        with open_image(path) as image:
            for frame in islice(ImageSequence.Iterator(image), 0, None, stride):
                yield pil_to_rgb(upright(frame))
        return
    av = pyav(path)
    try:
        with _for_pyav(path) as source, av.open(source) as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video")
            container.streams.video[0].thread_type = "AUTO"
            incomplete, number = False, 0
            for packet in container.demux(video=0):
                incomplete |= packet.is_corrupt  # what a file lacks at its end does not make the decoder fail
                for frame in packet.decode():
                    if number % stride == 0:
                        yield frame_rgb(frame, path)
                    number += 1
            if incomplete:
                raise UserError(f"{path}: parts of the video are missing; what could be decoded was read")
    except UserError:
        raise
    except Exception as error:  # FFmpeg's own errors and whatever its binding makes of a damaged file
        raise UserError(f"{path}: cannot be read as a video ({why(error)})") from None


def frame_rgb(frame: Any, source: object) -> np.ndarray:
    """Return a frame of PyAV as (H, W, 3) uint8 RGB, upright.

    Args:
        frame: decoded.
        source: what an error calls the video.

    Raises:
        UserError: if it has more pixels than the limit.
    """
    check_size(source, (frame.width, frame.height))
    turns = round(frame.rotation / 90)  # counter-clockwise; a telephone held upright writes -90
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def count_frames(path: Path) -> int:
    """Return how many frames a video file says that it has; 0 where it does not say, or cannot be read."""
    try:
        if not is_film(path):
            with open_image(path) as image:
                return getattr(image, "n_frames", 1)
        with _for_pyav(path) as source, pyav(path).open(source) as container:
            stream = container.streams.video[0]
            seconds = float(container.duration or 0) / 1e6
            return stream.frames or round(seconds * float(stream.average_rate or 0))
    except Exception:  # reading the frames says what is wrong
        return 0


def frame_rate(path: Path) -> Fraction:
    """Return the average frames per second that a video file names; 25 where it names none.

    Raises:
        UserError: if the file cannot be opened, or PyAV is not installed.
    """
    av = pyav(path)
    try:
        with _for_pyav(path) as source, av.open(source) as container:
            stream = container.streams.video[0]
            return stream.average_rate or stream.guessed_rate or USUAL_RATE
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a video ({why(error)})") from None


def write_film(pictures: Sequence[Path], path: Path, rate: Fraction) -> None:
    """Join image files into an MP4 (H.264, or MPEG-4 where PyAV lacks it); the file appears when it is whole.

    Args:
        pictures: at least one; the first gives the size, which others are brought to.
        path: of the film.
        rate: frames per second.

    Raises:
        UserError: if it cannot be written, or PyAV is not installed.
    """
    av = pyav(path)
    codec, options = ("libx264", {"crf": "20"}) if "libx264" in av.codecs_available else ("mpeg4", {"qscale": "3"})
    with writing(path) as temporary:
        try:
            with _for_pyav(temporary, "wb") as target, av.open(target, "w", format="mp4") as container:
                stream = None
                for picture in pictures:
                    with open_image(picture) as image:
                        pixels = _even(np.asarray(image.convert("RGB")))
                    if stream is None:
                        stream = container.add_stream(codec, rate=rate, options=options)
                        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    container.mux(stream.encode(frame.reformat(width=stream.width, height=stream.height)))
                if stream is not None:
                    container.mux(stream.encode())
        except Exception as error:  # of a picture, the encoder or the disk
            raise UserError(f"{path}: the film cannot be written ({why(error)})") from None


def _even(pixels: np.ndarray) -> np.ndarray:
    """Repeat the last row and column of (H, W, 3) where their number is odd: the colours have half as many."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@contextmanager
def _for_pyav(path: Path, mode: str = "rb") -> Iterator[Any]:
    """Yield what PyAV opens: a name, or the opened file where the name is no UTF-8, which PyAV does not take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open(mode) as file:
            yield file
    else:
        yield str(path)


def pyav(source: object) -> Any:
    """Import PyAV.

    Args:
        source: what needs it, for the error.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(f"{source}: reading videos needs PyAV: pip install 'maskformer-ext[video]'") from None
    return av
