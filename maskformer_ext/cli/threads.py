"""How long a thread that waits for another spins before it sleeps: set before torch is loaded."""

from __future__ import annotations

import os
import sys

_CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SPINS = "1000"  # some 20 microseconds; GNU OpenMP's own are 300 times as many


def limit_spinning() -> bool:
    """Let waiting threads of GNU OpenMP sleep soon, unless the user chose how they wait.

    A thread that spins for one that does not run takes the core that this one needs. Beside other busy processes that
    made steps several times as long. The library reads its settings when torch is loaded, so commands call this first.

    Returns:
        Whether the setting was made.
    """
    if "torch" in sys.modules or any(name in os.environ for name in _CHOSEN):
        return False
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    return True
