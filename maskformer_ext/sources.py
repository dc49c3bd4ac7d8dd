"""What `predict` reads: images, folders, globs and videos, one picture at a time."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.decoding import EXTENSIONS
from maskformer_ext.errors import UserError
from maskformer_ext.videos import VIDEO_EXTENSIONS, is_video, read_frames

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video.

    Attributes:
        source: what messages call it.
        name: of its results, without ending; may hold folders.
        number: of its file, from 1.
        pixels: (3, H, W) uint8 RGB; None where it was not read, being done already, or being damaged.
        error: why it could not be read, in a sentence.
        is_frame: whether it is part of a video.
    """

    source: str
    name: str
    number: int
    pixels: Tensor | None = None
    error: str | None = None
    is_frame: bool = False


def find_files(source: str) -> list[tuple[Path, str]]:
    """List the images and videos that a path or glob names.

    Args:
        source: a file, a folder or a glob.

    Returns:
        Path, and name of the results (without ending; the path below the folder), in alphabetical order.

    Raises:
        UserError: if there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        files, base = [path], path.parent
    elif path.is_dir():
        files, base = sorted(file for file in path.rglob("*") if _is_readable(file)), path
        if not files:
            raise UserError(f"input={source}: the folder holds no image or video ({', '.join(_extensions())})")
    else:
        files, base = sorted(Path(match) for match in glob.glob(str(path), recursive=True)), None
        files = [file for file in files if _is_readable(file)]
        if not files:
            raise UserError(f"input={source}: no such file or folder, and no file matches it as a glob")
    names = [file.relative_to(base) if base else Path(file.name) for file in files]
    stems = [name.with_suffix("").as_posix() for name in names]
    repeated = {stem for stem in stems if stems.count(stem) > 1}  # a.jpg beside a.png, or two folders' a.jpg
    if not repeated:
        return list(zip(files, stems, strict=True))
    full = [name.as_posix() if stem in repeated else stem for name, stem in zip(names, stems, strict=True)]
    if len(set(full)) < len(full):  # the same file name from several folders of a glob
        full = ["_".join(file.parts[-2:]) for file in files]
    if len(set(full)) < len(full):
        raise UserError(f"input={source}: several files have the same name; give one folder at a time")
    return list(zip(files, full, strict=True))


def read_pictures(files: list[tuple[Path, str]], is_done: Callable[[str], bool]) -> Iterator[Picture]:
    """Read the images, and the frames of the videos, one after the other.

    Args:
        files: paths and names, as `find_files` gives them. Frame 7 of a video is called ``NAME/000007``.
        is_done: tells by its name whether a picture need not be read.
    """
    from maskformer_ext.images import read_image  # brings torch, which listing files does not need

    for number, (path, name) in enumerate(files, start=1):
        if is_video(path):
            frame = 0
            try:
                for frame, pixels in enumerate(read_frames(path), start=1):
                    own = f"{name}/{frame - 1:06d}"
                    wanted = None if is_done(own) else pixels
                    yield Picture(f"{path} frame {frame - 1}", own, number, wanted, is_frame=True)
            except UserError as error:
                yield Picture(f"{path} frame {frame}", f"{name}/{frame:06d}", number, error=str(error), is_frame=True)
        elif is_done(name):
            yield Picture(str(path), name, number)
        else:
            try:
                picture = Picture(str(path), name, number, read_image(path))
            except UserError as error:
                picture = Picture(str(path), name, number, error=str(error))
            yield picture


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() in _extensions() and path.is_file()


def _extensions() -> tuple[str, ...]:
    return (*EXTENSIONS, ".apng", *VIDEO_EXTENSIONS)
