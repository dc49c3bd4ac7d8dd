"""The tasks: which of them a model can do, and which one it was trained for. Every command asks here."""

from __future__ import annotations

TASKS = ("semantic", "instance", "panoptic")


def possible_tasks(trained: str, architecture: str, knows_things: bool, *, tta: bool = False) -> list[str]:
    """Return the tasks whose results mean something, in the order of ``TASKS``.

    Args:
        trained: ``data.task`` of the run that trained the weights.
        architecture: ``model.architecture``.
        knows_things: whether some classes are things.
        tta: whether test-time augmentation is on, which averages class scores.
    """
    if architecture != "maskformer" or tta:
        return ["semantic"]
    if trained == "instance":
        return ["instance"]
    return list(TASKS) if knows_things else ["semantic"]


def default_task(trained: str, architecture: str, knows_things: bool, *, tta: bool = False) -> str:
    """Return the task that says most: instance after training for it, else panoptic where things are known.

    Args are those of `possible_tasks`.
    """
    possible = possible_tasks(trained, architecture, knows_things, tta=tta)
    return next(task for task in ("panoptic", "instance", "semantic") if task in possible)
