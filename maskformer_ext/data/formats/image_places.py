"""Where the images are that an annotation file names: tools write paths of other machines, URLs, or bare names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from maskformer_ext.data.listing import composed
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.decoding import EXTENSIONS

_MOST_PARTS = 6  # of a path that are tried, from its end
_MOST_FILES = 1_000_000  # that are looked through by name
_SHOWN = 6  # folders that an error names


class ImagePlaces:
    """The folders in which the images of an annotation file may lie, the likeliest first.

    A name is looked for as it is, then without its first folders, one after the other. The file's own name comes last.
    So absolute paths, ``../`` and URLs work, and no name leads out of the folders.

    Args:
        folders: to look in, each directly.
        below: folders in which a file is also found by its own name alone, at any depth, if only one has it.
    """

    def __init__(self, folders: Sequence[Path], below: Sequence[Path] = ()) -> None:
        there = {folder.resolve(): folder for folder in reversed(folders) if folder.is_dir()}
        self.folders = list(reversed(there.values()))
        self.looked = list(dict.fromkeys(folders))
        self.below = list(dict.fromkeys(folder for folder in below if folder.is_dir()))
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str) -> tuple[Path, str] | None:
        """Return the path of an image and its name below the folder where it is; None where it is not found.

        Raises:
            UserError: if only the file's own name fits, and several files have it.
        """
        ends = _ends(name)
        for end in ends:
            for folder in self.folders:
                for form in dict.fromkeys((end, composed(end), unicodedata.normalize("NFD", end))):
                    if os.path.isfile(folder / form):
                        return folder / form, composed(end)
        if not ends or not self.below:
            return None
        found = self._named(ends[-1])
        if len(found) > 1:
            raise UserError(
                f"{found[0]} and {found[1]} are both called {printable(ends[-1])}, and {printable(name)!r} may mean "
                "either: set data.train_images and data.val_images to the folders that are meant."
            )
        return (found[0], composed(ends[-1])) if found else None

    def where(self) -> str:
        """Return in words which folders are looked in."""
        shown = [str(folder) for folder in self.folders or self.looked[:_SHOWN]][:_SHOWN]
        more = len(self.folders or self.looked) - len(shown)
        below = f", and anywhere below {' and '.join(map(str, self.below))}" if self.below else ""
        return f"{', '.join(shown)}{f' and {more} more' if more > 0 else ''}{below}"

    def _named(self, name: str) -> list[Path]:
        if self._by_name is None:
            self._by_name = {}
            for path in sorted({path for folder in self.below for path in _images(folder)}):
                self._by_name.setdefault(composed(path.name), []).append(path)
        return self._by_name.get(composed(name), [])


def _of_address(name: str) -> list[str]:
    """Return the paths that a URL holds: Label Studio writes /data/local-files/?d=path."""
    try:
        address = urlsplit(name)
    except ValueError:
        return [name]
    return [*parse_qs(address.query).get("d", []), *([] if address.scheme else [name]), address.path]


def _images(folder: Path) -> list[Path]:
    found = []
    for place, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        if len(found) > _MOST_FILES:
            break
        found += [Path(place, file) for file in files if os.path.splitext(file)[1].lower() in EXTENSIONS]
    return found


def _ends(name: str) -> list[str]:
    """Return the paths that a name may stand for, the longest first: its last parts, never with ``..``."""
    texts = [name]
    if "://" in name or "?" in name:
        texts = _of_address(name)
    texts += [unquote(text) for text in texts if "%" in text]
    ends = []
    for text in texts:
        pieces = text.replace("\0", "").replace("\\", "/").split("/")
        parts = [piece for piece in pieces if piece not in ("", ".", "..")]
        parts = parts[1:] if len(parts) > 1 and parts[0][1:] == ":" else parts
        ends += ["/".join(parts[first:]) for first in range(max(0, len(parts) - _MOST_PARTS), len(parts))]
    return sorted(dict.fromkeys(ends), key=lambda end: -end.count("/"))
