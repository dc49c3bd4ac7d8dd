"""What a user of `predict` chooses."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskformer_ext.media.downloads import MOST_BYTES


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        stride: take every so-manyth frame of a video, a camera or a stream.
        max_frames: of each of them, at most; None: all.
        max_bytes: the largest file that is fetched from the web, or read from standard input.
        resume: leave out what is done, which cannot be known of what has no end.
    """

    stride: int = 1
    max_frames: int | None = None
    max_bytes: int = MOST_BYTES
    resume: bool = False


@dataclass(frozen=True)
class PredictionOptions:
    """How images are segmented and shown.

    Attributes:
        task: what to do; None: what the model was trained for.
        names: write class names on the overlays.
        min_score: instances below it are not shown.
        overlay_size: longer side of the overlays at most.
        batch: how many images go through the network at once.
        queries: also draw what each query stands for.
        film: join the overlays of a video's frames.
        quiet: print errors only.
        reading: how inputs are read.
    """

    task: str | None = None
    names: bool = True
    min_score: float = 0.5
    overlay_size: int = 2048
    batch: int = 1
    queries: bool = False
    film: bool = True
    quiet: bool = False
    reading: Reading = field(default_factory=Reading)
