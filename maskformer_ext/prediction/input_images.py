"""The images that `predict` reads, one at a time: files, and the frames of videos, cameras and streams."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from maskformer_ext.errors import UserError, why
from maskformer_ext.media.addresses import STANDARD_INPUT, Address
from maskformer_ext.media.downloads import download, save_standard_input
from maskformer_ext.media.images import read_rgb
from maskformer_ext.media.streams import LiveFrames
from maskformer_ext.media.videos import count_frames, frame_rate, is_film, is_video, read_frames
from maskformer_ext.prediction.input_files import Place
from maskformer_ext.prediction.options import Reading


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
        shown: a short name for what is printed.
        siblings: how many images its file is thought to hold; 0 where that is not known.
        rate: frames per second of its video; None where it is none, or does not say.
        is_live: whether it comes from a camera or a stream.
    """

    source: str
    name: str
    number: int
    rgb: np.ndarray | None = None
    error: str | None = None
    is_frame: bool = False
    shown: str = ""
    siblings: int = 1
    rate: Fraction | None = None
    is_live: bool = False

    @property
    def video(self) -> str:
        """The name of the video that a frame belongs to."""
        return self.name.rpartition("/")[0]

    @property
    def frame(self) -> int:
        """The number of a frame in its video."""
        return int(self.name.rpartition("/")[2])


def read_images(
    files: Sequence[tuple[Place, str]],
    is_done: Callable[[str], bool],
    reading: Reading | None = None,
    order: Iterable[int] | None = None,
) -> Generator[InputImage, None, None]:
    """Read the images, and the frames of the videos, one after the other.

    Args:
        files: places and names, as `list_files` finds them. Frame 7 of a video is called ``NAME/000007``.
        is_done: tells by its name whether an image need not be read.
        reading: how.
        order: which of the files are read, by their index; None: all.
    """
    for index in range(len(files)) if order is None else order:
        place, name = files[index]
        input_file = _Input(place, name, index + 1, is_done, reading or Reading())
        try:
            yield from input_file.images()  # holds none of them, as a large one need not be kept
        except Exception as error:  # whatever a decoder does: the other files are still there
            is_frame = input_file.has_frames or (isinstance(place, Path) and is_film(place))
            yield InputImage(str(place), name, index + 1, error=_named(place, error), is_frame=is_frame)


class _Input:
    """One input, and the images in it.

    Attributes:
        has_frames: whether a frame was read.
    """

    def __init__(self, place: Place, name: str, number: int, is_done: Callable[[str], bool], reading: Reading) -> None:
        self._place, self._name, self._number, self._is_done, self._reading = place, name, number, is_done, reading
        self._shown, self.has_frames = _shown(place, name), False

    def images(self) -> Iterator[InputImage]:
        place = self._place
        if isinstance(place, Path):
            yield from self._of_a_file(place)
        elif place.is_endless:
            yield from self._of_a_stream(place)
        elif self._is_done(self._name):
            yield self._image(None)
        else:
            with _saved(place, self._reading.max_bytes) as file:
                if file is None:
                    yield from self._of_a_stream(place.as_stream())
                else:
                    yield from self._of_a_saved_file(file)

    def _of_a_file(self, path: Path) -> Iterator[InputImage]:
        if not is_video(path):
            yield self._image(None if self._is_done(self._name) else read_rgb(path))
            return
        stride, most = self._reading.stride, self._reading.max_frames
        rate = frame_rate(path) if is_film(path) else None
        siblings = -(-count_frames(path) // stride)
        frames = enumerate(read_frames(path, stride=stride))
        for place, rgb in frames:
            if place == most:
                return
            yield self._frame(place * stride, rgb, rate, min(siblings, most or siblings))

    def _of_a_saved_file(self, file: Path) -> Iterator[InputImage]:
        """Read what was fetched; errors name where it came from."""
        try:
            yield from self._of_a_file(file)
        except UserError as error:
            raise UserError(str(error).replace(str(file), str(self._place))) from None

    def _of_a_stream(self, address: Address) -> Iterator[InputImage]:
        if self._reading.resume:
            raise UserError(f"{address}: a stream cannot be resumed: give resume=false")
        most = self._reading.max_frames
        with LiveFrames(address, stride=self._reading.stride) as frames:
            for place, (number, rgb) in enumerate(frames, start=1):
                yield self._frame(number, rgb, frames.rate, most or 0, is_live=True)
                if place == most:
                    return

    def _image(self, rgb: np.ndarray | None) -> InputImage:
        return InputImage(str(self._place), self._name, self._number, rgb, shown=self._shown)

    def _frame(
        self, number: int, rgb: np.ndarray, rate: Fraction | None, siblings: int, *, is_live: bool = False
    ) -> InputImage:
        own, self.has_frames = f"{self._name}/{number:06d}", True
        return InputImage(
            f"{self._place} frame {number}",
            own,
            self._number,
            None if not is_live and self._is_done(own) else rgb,
            is_frame=True,
            shown=f"{self._shown} frame {number}",
            siblings=siblings,
            rate=rate,
            is_live=is_live,
        )


@contextmanager
def _saved(address: Address, max_bytes: int) -> Iterator[Path | None]:
    """Yield a temporary file with what an address holds; None where that is a stream."""
    with tempfile.TemporaryDirectory(prefix="maskformer-ext-") as folder:
        if address.kind == STANDARD_INPUT:
            yield save_standard_input(getattr(sys.stdin, "buffer", sys.stdin), Path(folder), max_bytes)
        else:
            yield download(address, Path(folder), max_bytes)


def _shown(place: Place, name: str) -> str:
    """Return a short name: the path below the input, with the ending of the file."""
    if isinstance(place, Address):
        return place.name
    return name if name.endswith(place.suffix) else f"{name}{place.suffix}"


def _named(place: Place, error: Exception) -> str:
    """Return an error's reason, after the name of the file unless it says that itself."""
    text = str(error)
    return text if text.startswith(f"{place}: ") else f"{place}: {why(error)}"
