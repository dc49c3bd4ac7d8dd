"""What an input names: files, folders, globs, lists and addresses; no hidden files, and never results of `predict`."""

from __future__ import annotations

import fnmatch
import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import read_text
from maskformer_ext.media.addresses import Address, parse_address
from maskformer_ext.media.decoding import EXTENSIONS
from maskformer_ext.media.videos import VIDEO_EXTENSIONS, is_video
from maskformer_ext.prediction.output_folder import EarlierResults, results_of

Place: TypeAlias = Path | Address
"""Where an input is: a file, or something that is none."""

_READABLE = (*EXTENSIONS, ".apng", *VIDEO_EXTENSIONS)
_RESULTS, _HIDDEN, _OTHER, _UNREADABLE, _TWICE = (
    "earlier results of predict",
    "hidden or temporary",
    "no image or video by their ending",
    "that could not be listed",
    "named twice",
)


@dataclass
class Listing:
    """The files of an input, and those that were passed over.

    Attributes:
        files: places, and names of the results (without ending; the path below the folder). Those of a folder or a
            glob come in alphabetical order.
        passed_over: for each reason the number of files or folders, and the first of them.
        results: what `predict` has written before.
    """

    files: list[tuple[Place, str]] = field(default_factory=list)
    passed_over: dict[str, tuple[int, Place]] = field(default_factory=dict)
    results: EarlierResults = field(default_factory=EarlierResults)

    def takes(self, file: Path) -> bool:
        """Return whether a file is read, and count it where not."""
        name = file.name.lower()
        if _is_hidden(name):
            reason = _HIDDEN
        elif file in self.results:
            reason = _RESULTS
        elif not name.endswith(_READABLE):
            reason = _OTHER
        else:
            return True
        self.pass_over(reason, file)
        return False

    def pass_over(self, reason: str, path: Place) -> None:
        """Count a file that is not read."""
        count, first = self.passed_over.get(reason, (0, path))
        self.passed_over[reason] = (count + 1, first)

    def note(self) -> str | None:
        """Return one line that says what was passed over; None where nothing was."""
        parts = [
            f"{count} {reason} ({printable(first)}{', ...' if count > 1 else ''})"
            for reason, (count, first) in self.passed_over.items()
        ]
        return f"passed over: {'; '.join(parts)}" if parts else None


def list_files(source: str, output: Path | None = None) -> Listing:
    """List what an input names.

    Folders are searched with the folders in them. Links to folders are followed; a folder that can be reached in
    several ways is read once. Hidden and temporary files and what `predict` has written are passed over.

    Args:
        source: a file, a folder, a glob, an address, or ``-`` for standard input. ``@FILE`` or a text file lists some
            of these, one per line. ``@-`` reads the list from standard input.
        output: where the results will go; None: somewhere else.

    Raises:
        UserError: if there is none, two would have results of the same name, or results would overwrite an image.
    """
    listing = Listing()
    if source.startswith("@") or (source.lower().endswith(".txt") and Path(source).expanduser().is_file()):
        entries = _entries_of_a_list(source, listing)
    else:
        entries = _entries(source, listing)
    listing.files = _named(entries)
    if output is not None:
        _check_inputs_stay(listing.files, output)
    return listing


def _entries(source: str, listing: Listing) -> list[tuple[Place, Path]]:
    """Return the places that a text names, and what they are called below it."""
    if (address := parse_address(source)) is not None:
        return [(address, Path(address.name))]
    entries: list[tuple[Place, Path]]
    try:
        path = Path(source).expanduser()
        is_folder = path.is_dir()
        if path.is_file():
            if path in listing.results:
                raise UserError(f"input={source} is a result of predict, which is no input: copy it elsewhere first")
            entries = [(path, Path(path.name))]
        elif is_folder:
            entries = [(file, file.relative_to(path)) for file in sorted(_walk(path, listing))]
        else:
            entries = [(file, Path(file.name)) for file in sorted(_matches(path, listing))]
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"input={source}: {why(error)}") from None
    if not entries and not is_folder and not listing.passed_over:
        raise UserError(f"input={source}: no such file or folder, and no file matches it as a glob")
    if not entries:
        note = f"; {listing.note()}" if listing.passed_over else ""
        what = "the folder" if is_folder else "the glob"
        raise UserError(f"input={source}: {what} holds no image or video ({', '.join(_READABLE)}){note}")
    return entries


def _entries_of_a_list(source: str, listing: Listing) -> list[tuple[Place, Path]]:
    """Return the places that the lines of a list name; a file that is missing fails later, without the others."""
    name = source.removeprefix("@")
    text = sys.stdin.read() if name == "-" else read_text(Path(name).expanduser(), "a list of images, one per line")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    entries: dict[Place, Path] = {}
    missing = []
    for number, line in lines:
        try:
            found = _entries(line, listing)
        except UserError as error:
            path = Path(line)
            if "://" in line or path.exists() or glob.has_magic(line):
                raise UserError(f"{source} line {number}: {error}") from None
            missing.append((number, line))
            found = [(path, Path(path.name))]
        for place, below in found:
            if place in entries:
                listing.pass_over(_TWICE, place)
            entries.setdefault(place, below)
    if not lines:
        raise UserError(f"input={source}: the list is empty: write one path or address per line")
    if len(missing) == len(lines):
        number, line = missing[0]
        raise UserError(f"{source} line {number}: no such file: {line}: paths begin at the folder of the command")
    return list(entries.items())


def _matches(pattern: Path, listing: Listing) -> Iterator[Path]:
    """Yield the readable files that a glob names; two stars stand for any folders, each of which is read once."""
    parts = pattern.parts
    if "**" not in parts:
        matches = (Path(match) for match in glob.iglob(str(pattern)))
        yield from (match for match in matches if match.is_file() and listing.takes(match))
        return
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    yield from _walk(root, listing, lambda file: _fits(file.relative_to(root).parts, parts[fixed:]))


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a glob."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        return len(patterns) == 1 or any(_fits(names[start:], patterns[1:]) for start in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _walk(root: Path, listing: Listing, fits: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield the readable files below a folder; folders of the tree itself come before those that links lead to."""
    seen: set[tuple[int, int]] = set()
    links = [root]
    while links:
        waiting, links = [folder for folder in links if _is_new(folder, seen)], []
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        inside = folder / entry.name
                        if entry.is_dir():
                            if _is_hidden(entry.name):
                                listing.pass_over(_HIDDEN, inside)
                            elif entry.is_symlink():
                                links.append(inside)
                            elif _is_new(inside, seen):
                                waiting.append(inside)
                        elif entry.is_file():
                            if (fits is None or fits(inside)) and listing.takes(inside):
                                yield inside
                        elif entry.is_symlink() and inside.suffix.lower() in _READABLE:
                            listing.pass_over(_UNREADABLE, inside)  # it leads nowhere
            except OSError:
                listing.pass_over(_UNREADABLE, folder)
        links.sort()


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return True  # listing it says what is wrong
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower().endswith(("~", ".tmp", ".part", ".crdownload"))


def _named(files: Sequence[tuple[Place, Path]]) -> list[tuple[Place, str]]:
    """Name the results of each file: without ending where that is unique, else with it, or with its folders.

    Args:
        files: places, and what they are called below the input.

    Raises:
        UserError: if two files, or frames of a video and a file, would share a result.
    """
    stems = [_without_ending(name) for _, name in files]
    full = [name.as_posix() for _, name in files]
    stems = _told_apart(stems, full)  # a.jpg beside a.png
    if len(set(stems)) < len(stems):  # a glob's a.jpg of several folders
        parents = [place.parent.absolute() for place, _ in files if isinstance(place, Path)]
        above = Path(os.path.commonpath(parents)) if parents else Path()
        below = [
            place.absolute().relative_to(above) if isinstance(place, Path) else Path(place.path) for place, _ in files
        ]
        stems = _told_apart(stems, [_without_ending(name) for name in below])
        stems = _told_apart(stems, [name.as_posix() for name in below])
    owners: dict[str, Place] = {}
    for (place, _), stem in zip(files, stems, strict=True):
        if stem in owners:
            raise _same_result(owners[stem], place, stem)
        owners[stem] = place
    for stem, place in owners.items():
        folder, _, name = stem.rpartition("/")
        if folder in owners and name.isdecimal() and len(name) >= 6 and _may_have_frames(owners[folder]):
            raise _same_result(owners[folder], place, stem)  # frame 7 of a.mp4 is called a/000007
        film = owners.get(stem.removesuffix(".mp4")) if _may_have_frames(place) else None
        if film is not None and film != place and _may_have_frames(film):
            raise _same_result(film, place, stem)  # the film of one, and the folder of the other's frames
        while folder:
            other = owners.get(folder[:-4] if folder.endswith(".png") else folder[:-5])
            if other is not None and folder.endswith((".png", ".json")):
                raise _same_result(other, place, folder)  # a file and a folder
            folder = folder.rpartition("/")[0]
    return [(place, stem) for (place, _), stem in zip(files, stems, strict=True)]


def _may_have_frames(place: Place) -> bool:
    return is_video(place) if isinstance(place, Path) else True


def _check_inputs_stay(files: Sequence[tuple[Place, str]], output: Path) -> None:
    inputs = {place.absolute() for place, _ in files if isinstance(place, Path)}
    for place, name in files:
        for result in results_of(output.absolute(), name):
            if result in inputs:
                raise UserError(f"the results of {place} would overwrite the input {result}: give another output")


def _without_ending(name: Path) -> str:
    return name.with_suffix("").as_posix()


def _told_apart(names: list[str], longer: list[str]) -> list[str]:
    """Return a longer name for files that share theirs, until none do or that does not help."""
    while True:
        count = Counter(names)
        chosen = [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
        if chosen == names:
            return names
        names = chosen


def _same_result(first: Place, second: Place, name: str) -> UserError:
    return UserError(
        f"{first} and {second} would both have the results {name!r}: rename one, or give one folder at a time"
    )
