"""The tasks: which of them a model can do, and which one it was trained for. Every command asks here."""

from __future__ import annotations

from collections.abc import Collection

from maskformer_ext.config.values import CHOICES, check_choice
from maskformer_ext.errors import UserError

TASKS = CHOICES["data.task"]


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


def never_learnt(trained: str, asked: Collection[str], knows_things: bool = True) -> str | None:
    """Return which of the tasks that a user asks for the weights never learnt, in words; None where they learnt all.

    Args:
        trained: ``data.task`` of the run that trained the weights.
        asked: tasks.
        knows_things: whether some classes are things.
    """
    if trained == "semantic" and not knows_things and "instance" in asked:
        return (
            "task=instance: this model was trained with data.task=semantic and knows no things: all pixels of a class "
            "become one instance"
        )
    others = [task for task in asked if task != "instance"]
    if trained != "instance" or not others:
        return None
    return (
        f"task={','.join(others)}: this model was trained with data.task=instance and never learnt what lies between "
        "the instances; task=instance is what it can do"
    )


def default_task(trained: str, architecture: str, knows_things: bool, *, tta: bool = False) -> str:
    """Return the task that says most: instance after training for it, else panoptic where things are known.

    Args are those of `possible_tasks`.
    """
    possible = possible_tasks(trained, architecture, knows_things, tta=tta)
    return next(task for task in ("panoptic", "instance", "semantic") if task in possible)


def choose_task(
    asked: str | None, architecture: str, knows_things: bool, *, tta: bool = False, trained: str = "semantic"
) -> str:
    """Return the task to do: the named one, even if it was never learnt, or what the model was trained for.

    Args:
        asked: as the user named it; None: by default.
        architecture: ``model.architecture``.
        knows_things: whether some classes are things.
        tta: whether test-time augmentation is on.
        trained: ``data.task`` of the training run.

    Raises:
        UserError: if the task does not exist or the model cannot do it.
    """
    if asked is None:
        return default_task(trained, architecture, knows_things, tta=tta)
    check_choice("task", asked, TASKS)
    if asked != "semantic" and architecture != "maskformer":
        raise UserError(f"task={asked}: a {architecture} model can do semantic only")
    if asked != "semantic" and tta:
        raise UserError(f"task={asked}: test-time augmentation (inference.tta) is for semantic only")
    return asked
