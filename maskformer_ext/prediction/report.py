"""What `predict` prints: a line per image, what failed, and how fast it was."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from maskformer_ext.errors import printable, why

_MOST_TIMES = 10_000  # that processes tell each other


@dataclass
class Counts:
    """What became of the images.

    Attributes:
        images: how many were read, or should have been.
        done: those of them whose results were written now.
        failed: those of them that could not be read, segmented or written.
        skipped: those that were done already.
        lost: films and summaries that could not be written.
        dropped: frames of cameras and streams that came while the network was busy; they are none of the images.
        seconds: from the first image to the last.
        times: milliseconds of network and masks, of each image that was segmented.
    """

    images: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    lost: int = 0
    dropped: int = 0
    seconds: float = 0.0
    times: array[float] = field(default_factory=lambda: array("f"))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON takes them, with ten thousand of the times at most."""
        step = -(-len(self.times) // _MOST_TIMES) or 1
        return {**asdict(self), "times": list(self.times[::step])}


def total(parts: Sequence[dict[str, Any]]) -> Counts:
    """Add up the counts of several processes, which worked at the same time.

    Args:
        parts: as `Counts.to_dict` makes them.
    """
    sums = Counts(seconds=max(part["seconds"] for part in parts))
    for part in parts:
        for key in ("images", "done", "failed", "skipped", "lost", "dropped"):
            setattr(sums, key, getattr(sums, key) + part[key])
        sums.times.extend(part["times"])
    return sums


def summary(counts: Counts) -> str:
    """Return one line: how many images were segmented, how fast, and what else became of the others."""
    done = counts.done
    parts = [f"{done} image{'' if done == 1 else 's'} in {_duration(counts.seconds)}"]
    if done and counts.seconds:
        parts.append(f"{done / counts.seconds:.3g} images/s")
    if counts.times:
        parts.append(f"median {median(counts.times):.0f} ms")
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.skipped:
        parts.append(f"{counts.skipped} were done already (resume=true)")
    if counts.dropped:
        parts.append(f"{counts.dropped} frames dropped, as they came faster than they were segmented")
    return ", ".join(parts)


class Report:
    """Print what happens, and count it.

    Args:
        files: how many there are.
        quiet: print errors only.

    Attributes:
        counts: of everything so far.
    """

    def __init__(self, files: int, *, quiet: bool = False) -> None:
        self.counts = Counts()
        self._files, self._quiet = files, quiet

    def done(self, number: int, shown: str, size: tuple[int, int], found: str, milliseconds: float) -> None:
        """Print the line of an image.

        Args:
            number: of its file, from 1.
            shown: what it is called.
            size: height and width.
            found: in a few words.
            milliseconds: of network and masks.
        """
        self.counts.done += 1
        self.counts.times.append(milliseconds)
        self.say(f"{number}/{self._files} {shown} {size[1]}x{size[0]}: {found} ({milliseconds:.0f} ms)")

    def say(self, text: object) -> None:
        """Print a line, whole and at once: several processes may write to one log."""
        if not self._quiet:
            print(printable(text) + "\n", end="", flush=True)

    def fail(self, message: str) -> None:
        """Count an image that failed, and say why."""
        self.counts.failed += 1
        print(f"error: {printable(message)}", file=sys.stderr)

    def lose(self, file: Path, error: Exception) -> None:
        """Count a file that could not be written, and say why."""
        self.counts.lost += 1
        text = str(error)
        print(f"error: {printable(text if str(file) in text else f'{file}: {why(error)}')}", file=sys.stderr)


class Steps:
    """Tell a bar how many images are done, and of how many: a video counts as many as it is thought to hold.

    Args:
        files: how many there are.
        progress: gets both numbers; None for the second where it is not known.
    """

    def __init__(self, files: int, progress: Callable[[int, int | None], None]) -> None:
        self._total, self._progress = files, progress
        self._number, self._files, self._images, self._here, self._guess = 0, 0, 0, 0, 1

    def take(self, number: int, siblings: int) -> None:
        """Count an image.

        Args:
            number: of its file, from 1.
            siblings: how many images the file is thought to hold; 0: not known.
        """
        if number != self._number:
            self._total += max(0, self._here - 1)
            self._number, self._files, self._here, self._guess = number, self._files + 1, 0, siblings
        self._here += 1
        self._images += 1
        elsewhere = number - self._files  # files that other processes have taken
        known = self._total + max(self._guess, self._here) - 1
        self._progress(elsewhere + self._images, known if self._guess else None)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} h" if hours else f"{minutes}:{seconds:02d} min"
