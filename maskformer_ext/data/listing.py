"""The files below a folder, and their names: links are followed once, and what is passed over is counted."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.media.extensions import EXTENSIONS

_log = logging.getLogger(__name__)
_said: set[str] = set()  # both splits, and recognition before them, list the same folders
_OTHER_KIND = "with an ending that is not read here"
_NAMED = 4  # how many files of a kind a line names


@dataclass
class Listing:
    """The files of a folder.

    Attributes:
        folder: the folder.
        files: file by its path below the folder without ending, in Unicode's composed form.
        passed_over: paths below the folder of what is left out, by the reason.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        """Note what is passed over."""
        self.passed_over.setdefault(reason, []).append(name)

    def of_other_kinds(self) -> list[str]:
        """Return what has an ending that is not read."""
        return self.passed_over.get(_OTHER_KIND, [])

    def report(self) -> None:
        """Log one line that counts and names what is passed over, unless there is nothing; the same line once."""
        if not self.passed_over:
            return
        parts = []
        for reason, names in self.passed_over.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{len(names)} {reason} ({', '.join(names[:_NAMED])}{more})")
        line = printable(f"passed over in {self.folder}: {'; '.join(parts)}")
        if line not in _said:
            _said.add(line)
            _log.warning("%s", line)


def composed(name: str) -> str:
    """Return a name in Unicode's composed form: macOS writes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def list_files(folder: Path, extensions: Sequence[str], *, ending: str = "") -> Listing:
    """List the files below a folder, by name; hidden ones are passed over.

    Args:
        folder: where to look.
        extensions: endings of the files that count, in small letters.
        ending: how their names end instead, such as "_leftImg8bit.png"; other files are then not spoken of. Capitals do
            not matter in either.

    Raises:
        UserError: if the folder is missing or cannot be read, or two files have one name.
    """
    if not folder.is_dir():
        raise UserError(f"the folder {folder} is missing: check data.root and the paths below it in the configuration.")
    listing = Listing(folder)
    for path in sorted(_walk(listing)):
        below = path.relative_to(folder).as_posix()
        cut = ending or path.suffix
        if path.name.startswith("."):
            listing.leave_out("hidden", below)
        elif not path.is_file():
            listing.leave_out("no file, or a broken link", below)
        elif not below.lower().endswith(ending.lower()) or (not ending and path.suffix.lower() not in extensions):
            listing.leave_out(_OTHER_KIND, below)
        else:
            name = composed(below[: len(below) - len(cut)])
            if name in listing.files:
                raise UserError(f"{listing.files[name]} and {path} have the same name: keep one of them.")
            listing.files[name] = path
    return listing


def find_file(folder: Path, *names: str) -> Path:
    """Return the path of a file that an annotation names, whose accents and separators the disk may have otherwise.

    Args:
        folder: where it lies.
        names: its path below the folder; where there are several, the first that is there counts.

    Returns:
        The path; of the first name, where no file is there.

    Raises:
        UserError: if a name leads out of the folder.
    """
    for name in names:
        check_below(name, folder)
        forms = (name, composed(name), unicodedata.normalize("NFD", name), name.replace("\\", "/"))
        for form in dict.fromkeys(forms):
            if os.path.isfile(folder / form):  # which, unlike Path's method, is False for impossible names
                return folder / form
    return folder / names[0]


def check_below(name: str, folder: Path | str) -> None:
    """Raise a ``UserError`` if a path that an annotation gives is no path below a folder."""
    parts = name.replace("\\", "/").split("/")
    drive = len(parts) > 1 and parts[0][1:] == ":"
    if not name.strip("./\\ ") or "\0" in name or parts[0] == "" or drive or ".." in parts:
        raise UserError(f"the file name {printable(name)!r} must be a path below {folder}, without '..'.")


def sample_names(files: Sequence[str]) -> list[str]:
    """Return what the images are called: their paths without ending, or with it where two differ by nothing else.

    Args:
        files: of the images, below their folder.
    """
    whole = [plain_path(file) for file in files]
    names = [str(path.with_suffix("")) if path.suffix.lower() in EXTENSIONS else str(path) for path in whole]
    for _ in range(2):  # a.jpg and a.png keep their endings, and then a.jpg.png has to keep its own
        counts = Counter(names)
        names = [name if counts[name] == 1 else str(path) for name, path in zip(names, whole, strict=True)]
    return names


def plain_path(file: str) -> PurePosixPath:
    """Return the path of a file in one form, whatever its separators and accents."""
    return PurePosixPath(composed(file).replace("\\", "/"))


def _walk(listing: Listing) -> list[Path]:
    """Return all entries that are no folders, folders before links so that a folder keeps its own name."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders: list[Path] = [listing.folder]
    links: list[Path] = []
    while folders or links:
        linked = not folders
        current = folders.pop() if folders else links.pop(0)
        try:
            status = current.stat()
            entries = [] if (status.st_dev, status.st_ino) in seen else sorted(os.scandir(current), key=_name)
        except OSError as error:
            raise UserError(f"the folder {current} cannot be read: {why(error)}") from None
        if (status.st_dev, status.st_ino) in seen:
            if linked:
                reason = "linked to a folder that is read already"
                listing.leave_out(reason, current.relative_to(listing.folder).as_posix())
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = current / entry.name
            if not (path.is_dir() if entry.is_symlink() else entry.is_dir()):
                found.append(path)
            elif entry.name.startswith("."):
                listing.leave_out("hidden", f"{path.relative_to(listing.folder).as_posix()}/")
            else:
                (links if entry.is_symlink() else folders).append(path)
    return found


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
