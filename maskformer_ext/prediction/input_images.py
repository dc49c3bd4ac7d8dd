"""The images that `predict` reads, one at a time: files, and the frames of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskformer_ext.errors import why
from maskformer_ext.media.images import read_rgb
from maskformer_ext.media.videos import is_video, read_frames


@dataclass(frozen=True)
class InputImage:
    """An image, or a frame of a video.

    Attributes:
        source: what messages call it.
        name: of its results, without ending; may hold folders.
        number: of its file, from 1.
        rgb: (H, W, 3) uint8; None where it was not read, being done already, or being damaged.
        error: why it could not be read, in a sentence.
        is_frame: whether it is part of a video.
    """

    source: str
    name: str
    number: int
    rgb: np.ndarray | None = None
    error: str | None = None
    is_frame: bool = False

    @property
    def video(self) -> str:
        """The name of the video that a frame belongs to."""
        return self.name.rpartition("/")[0]


def read_images(files: list[tuple[Path, str]], is_done: Callable[[str], bool]) -> Iterator[InputImage]:
    """Read the images, and the frames of the videos, one after the other.

    Args:
        files: paths and names, as `list_files` finds them. Frame 7 of a video is called ``NAME/000007``.
        is_done: tells by its name whether an image need not be read.
    """
    for number, (path, name) in enumerate(files, start=1):
        frame = 0
        try:
            if is_video(path):
                for frame, rgb in enumerate(read_frames(path), start=1):
                    own = f"{name}/{frame - 1:06d}"
                    wanted = None if is_done(own) else rgb
                    yield InputImage(f"{path} frame {frame - 1}", own, number, wanted, is_frame=True)
            elif is_done(name):
                yield InputImage(str(path), name, number)
            else:
                yield InputImage(str(path), name, number, read_rgb(path))
        except Exception as error:  # whatever a decoder does: the other files are still there
            text, own = _named(path, error), f"{name}/{frame:06d}"
            if frame or is_video(path):
                yield InputImage(f"{path} frame {frame}", own, number, error=text, is_frame=True)
            else:
                yield InputImage(str(path), name, number, error=text)


def _named(path: Path, error: Exception) -> str:
    """Return an error's reason, after the name of the file unless it says that itself."""
    text = str(error)
    return text if text.startswith(f"{path}: ") else f"{path}: {why(error)}"
