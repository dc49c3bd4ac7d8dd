"""EoMT in lightly-train, on our ops, while ``with accelerated():`` lasts.

lightly-train builds its models inside of one call, so that there is no instance to hand to ``accelerate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maskformer_ext.integrations.transformers import accelerate


@contextmanager
def accelerated(*, verbose: bool = True) -> Iterator[None]:
    """Call ``accelerate`` on every model that lightly-train builds to train it.

    For instance ``with accelerated(): lightly_train.train_panoptic_segmentation(...)``. Training, checkpoints and
    exports stay lightly-train's own. After the block, lightly-train is as before.

    Args:
        verbose: print one line on standard error that names what was replaced.

    Raises:
        UserError: in the block, if nothing in the model is known here: only EoMT is.
    """
    from lightly_train._commands import train_task_helpers as helpers

    original = helpers.get_train_model_cls

    def get_train_model_cls(*arguments: Any, **options: Any) -> type:
        return _accelerated(original(*arguments, **options), verbose)

    helpers.get_train_model_cls = get_train_model_cls
    try:
        yield
    finally:
        helpers.get_train_model_cls = original


def _accelerated(original: Any, verbose: bool) -> Any:
    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        original.__init__(self, *arguments, **options)
        accelerate(self, verbose=verbose)

    names = {"__init__": __init__, "__module__": original.__module__, "__qualname__": original.__qualname__}
    return type(original)(original.__name__, (original,), names)
