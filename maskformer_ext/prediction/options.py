"""What a user of `predict` chooses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictionOptions:
    """How images are segmented and shown.

    Attributes:
        task: what to do; None: what the model was trained for.
        names: write class names on the overlays.
        min_score: instances below it are not shown.
        overlay_size: longer side of the overlays at most.
        batch: how many images go through the network at once.
        resume: leave out what is done.
        queries: also draw what each query stands for.
        film: join the overlays of a video's frames.
    """

    task: str | None = None
    names: bool = True
    min_score: float = 0.5
    overlay_size: int = 2048
    batch: int = 1
    resume: bool = False
    queries: bool = False
    film: bool = True
