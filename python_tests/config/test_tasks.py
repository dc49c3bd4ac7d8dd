"""The tasks that a model can do, and the one that it was trained for, are the same for every command."""

from __future__ import annotations

import pytest

from maskformer_ext.config.tasks import choose_task, default_task, never_learnt, possible_tasks
from maskformer_ext.errors import UserError


@pytest.mark.parametrize(
    ("trained", "architecture", "things", "tta", "possible", "default"),
    [
        ("instance", "maskformer", True, False, ["instance"], "instance"),
        ("panoptic", "maskformer", True, False, ["semantic", "instance", "panoptic"], "panoptic"),
        ("semantic", "maskformer", False, False, ["semantic"], "semantic"),
        ("semantic", "maskformer", True, False, ["semantic", "instance", "panoptic"], "panoptic"),  # others' weights
        ("panoptic", "maskformer", True, True, ["semantic"], "semantic"),
        ("panoptic", "per_pixel_baseline", True, False, ["semantic"], "semantic"),
    ],
)
def test_tasks_follow_the_training_run(trained, architecture, things, tta, possible, default) -> None:
    assert possible_tasks(trained, architecture, things, tta=tta) == possible
    assert default_task(trained, architecture, things, tta=tta) == default
    assert choose_task(None, architecture, things, tta=tta, trained=trained) == default
    for task in possible:
        assert choose_task(task, architecture, things, tta=tta, trained=trained) == task
    with pytest.raises(UserError, match="task must be one of semantic, instance, panoptic, got 'depth'"):
        choose_task("depth", architecture, things, tta=tta, trained=trained)


def test_a_task_that_was_never_taught_is_done_where_it_is_named() -> None:
    assert choose_task("panoptic", "maskformer", True, trained="instance") == "panoptic"
    doubt = never_learnt("instance", ["panoptic"])
    assert doubt is not None and doubt.startswith("task=panoptic: this model was trained with data.task=instance")


def test_what_a_model_for_instances_never_learnt() -> None:
    assert never_learnt("instance", ["instance"]) is None and never_learnt("panoptic", ["semantic", "panoptic"]) is None
    said = never_learnt("instance", ["semantic", "instance", "panoptic"])
    assert said is not None and said.startswith(
        "task=semantic,panoptic: this model was trained with data.task=instance"
    )


def test_a_semantic_model_without_things_joins_instances() -> None:
    assert never_learnt("semantic", ["semantic", "panoptic"], False) is None
    assert never_learnt("semantic", ["instance"], True) is None  # others' weights, which name things
    assert choose_task("instance", "maskformer", False, trained="semantic") == "instance"
    doubt = never_learnt("semantic", ["instance"], False)
    assert doubt is not None and "knows no things: all pixels of a class become one instance" in doubt
