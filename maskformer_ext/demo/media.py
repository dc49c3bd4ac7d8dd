"""The files that were dragged in: kept in a folder of their own while the server runs, a few at a time."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.extensions import EXTENSIONS
from maskformer_ext.media.images import read_rgb
from maskformer_ext.media.videos import VIDEO_EXTENSIONS, is_video, read_frames

_MOST_FILES = 12  # that are kept; the oldest goes
_LONGEST_NAME = 120


class Medium:
    """A picture, or a video whose frames are read in order.

    Args:
        name: what its user calls it.
        path: where it lies.
        most_frames: of a video that are looked at.

    Attributes:
        frames: how many frames there are to look at; 0 for a picture.
        cut: whether the video has more.

    Raises:
        UserError: if it cannot be read, under the name that its user knows.
    """

    def __init__(self, name: str, path: Path, most_frames: int) -> None:
        self.name, self.path = name, path
        self.frames, self.cut = 0, False
        self._reader: Iterator[np.ndarray] = iter(())
        self._next, self._first = 0, None
        self._lock = threading.Lock()
        with _named(path, name):
            if is_video(path):
                self._count(most_frames)
            else:
                self._first = read_rgb(path)

    def _count(self, most: int) -> None:
        try:
            for _ in islice(read_frames(self.path), most + 1):
                self.frames += 1
        except UserError:
            if not self.frames:
                raise
            self.frames -= self.frames > 1  # what comes before the damage is shown
        self.cut = self.frames > most
        self.frames = min(self.frames, most)
        if not self.frames:
            raise UserError(f"{self.path}: holds no frame")

    def read(self, frame: int = 0) -> np.ndarray:
        """Return the picture, or a frame of the video, (H, W, 3) uint8.

        Raises:
            UserError: if there is no such frame, or it cannot be read.
        """
        with self._lock, _named(self.path, self.name):
            if not self.frames:
                first, self._first = self._first, None
                return read_rgb(self.path) if first is None else first
            if not 0 <= frame < self.frames:
                raise UserError(f"{self.path}: has no frame {frame}: its frames are 0 to {self.frames - 1}")
            if frame < self._next or self._next == 0:
                self._reader, self._next = read_frames(self.path), 0
            for rgb in self._reader:
                self._next += 1
                if self._next > frame:
                    return rgb
            raise UserError(f"{self.path}: has no frame {frame}")

    def forget(self) -> None:
        """Let go of the decoded picture; it is decoded again when it is asked for."""
        self._first = None


class MediaFolder:
    """Keep the newest files, each under an id that cannot be guessed.

    Args:
        most_frames: of a video that are looked at.
    """

    def __init__(self, most_frames: int) -> None:
        self._most_frames = most_frames
        self._folder = Path(tempfile.mkdtemp(prefix="maskformer-ext-demo-"))
        self._media: OrderedDict[str, Medium] = OrderedDict()
        self._lock = threading.Lock()

    def new_path(self, name: str) -> Path:
        """Return where a file of this name may be written; of the name only a known ending is used.

        Raises:
            UserError: if the ending is that of no picture and no video.
        """
        ending = PurePosixPath(name).suffix.lower()
        if ending not in (*EXTENSIONS, *VIDEO_EXTENSIONS, ".apng", ""):
            raise UserError(f"{name} is neither a picture nor a video that can be read here, going by its ending")
        return self._folder / f"{secrets.token_hex(12)}{ending}"

    def add(self, name: str, path: Path) -> str:
        """Take a file in and return its id; one that cannot be read is deleted.

        Raises:
            UserError: if it is no readable picture or video.
        """
        try:
            medium = Medium(name, path, self._most_frames)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        key = secrets.token_urlsafe(16)
        with self._lock:
            for other in self._media.values():  # twelve large pictures would fill the memory
                other.forget()
            self._media[key] = medium
            while len(self._media) > _MOST_FILES:
                self._media.popitem(last=False)[1].path.unlink(missing_ok=True)
        return key

    def get(self, key: str) -> Medium:
        """Return a file that was taken in.

        Raises:
            UserError: if it is not kept any more.
        """
        with self._lock:
            medium = self._media.get(key)
            if medium is None:
                raise UserError("this picture is not kept any more: drop it on the page again")
            self._media.move_to_end(key)
            return medium

    def close(self) -> None:
        """Delete all files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def clean_name(name: str) -> str:
    """Return the last part of what a browser calls a file, without what a terminal or a file system would obey."""
    last = printable(name.replace("\\", "/").rpartition("/")[2]).strip(" .") or "picture"
    stem, ending = last[:-12], last[-12:]
    return stem[: _LONGEST_NAME - len(ending)] + ending


class _named:
    """Give errors that name a file in the server's folder the name that its user knows."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = str(path), name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError) and self._path in str(error):
            raise UserError(str(error).replace(self._path, self._name)) from None
