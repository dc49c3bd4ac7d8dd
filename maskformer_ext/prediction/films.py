"""The overlays of a video's frames, joined into a film."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from maskformer_ext.media.videos import USUAL_RATE, write_film
from maskformer_ext.prediction.input_images import InputImage


@dataclass
class _Film:
    """One video: what it names as its frames per second, what was read of it, and whose overlays are there."""

    rate: Fraction
    is_live: bool
    first: int
    last: int
    read: int = 0
    drawn: array[int] = field(default_factory=lambda: array("L"))
    is_new: bool = False
    is_whole: bool = True

    def played_rate(self) -> Fraction:
        """Return the frames per second at which the film lasts as long as what it shows: some may be left out."""
        steps, seen = len(self.drawn) - 1, max(self.drawn) - min(self.drawn)
        return self.rate * Fraction(steps, seen) if seen else self.rate


class Films:
    """Remember the frames of each video, and join their overlays in the end.

    Args:
        overlays: the folder of the overlays.
    """

    def __init__(self, overlays: Path) -> None:
        self._overlays = overlays
        self._films: dict[str, _Film] = {}

    def read(self, image: InputImage) -> None:
        """Note that a frame was read."""
        if image.rate is None and not image.is_live:  # an animated image
            return
        if image.video not in self._films:
            self._films[image.video] = _Film(image.rate or USUAL_RATE, image.is_live, image.frame, image.frame)
        film = self._films[image.video]
        film.read, film.last, film.rate = film.read + 1, image.frame, image.rate or film.rate

    def drawn(self, image: InputImage, *, is_new: bool) -> None:
        """Note that the overlay of a frame is there, from this run or an earlier one."""
        if (film := self._films.get(image.video)) is not None:
            film.drawn.append(image.frame)
            film.is_new |= is_new

    def interrupt(self, video: str) -> None:
        """Note that a video was left in the middle: there is a film only of what has no end anyway."""
        if (film := self._films.get(video)) is not None:
            film.is_whole = film.is_live

    def dropped(self, stride: int) -> int:
        """Return how many frames cameras and streams sent while the network was busy."""
        return sum((film.last - film.first) // stride + 1 - film.read for film in self._films.values() if film.is_live)

    def write(self, written: Callable[[Path], None], failed: Callable[[Path, Exception], None]) -> None:
        """Write the films that have new frames, or that are not there.

        Args:
            written: is told of each.
            failed: is told of each that cannot be written, and why.
        """
        for name, film in self._films.items():
            file = self._overlays / f"{name}.mp4"
            if not film.drawn or not film.is_whole or (file.is_file() and not film.is_new):
                continue
            try:
                pictures = (self._overlays / name / f"{number:06d}.png" for number in sorted(film.drawn))
                write_film([picture for picture in pictures if picture.is_file()], file, film.played_rate())
                written(file)
            except Exception as error:
                failed(file, error)
