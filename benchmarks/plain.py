"""Stand in for the part of pytest-benchmark's fixture that the harness uses, where that is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class Rounds:
    """Calls a function so many times. Our own timers measure."""

    disabled = False

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def __call__(self, function: Callable[[], Any]) -> Any:
        """Call a function once."""
        return function()

    def pedantic(
        self, function: Callable[..., Any], args: tuple, setup: Callable[[], None], rounds: int, iterations: int
    ) -> None:
        """Call `setup`, then the function, in each round."""
        for _ in range(rounds):
            setup()
            for _ in range(iterations):
                function(*args)


@pytest.fixture
def benchmark() -> Rounds:
    """Stand in for the fixture of this name."""
    return Rounds()
