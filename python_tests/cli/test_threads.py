"""Waiting threads sleep soon, unless somebody chose otherwise or it is too late to say so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_ASK = """
import os, sys
from maskformer_ext.cli.threads import limit_spinning
print(limit_spinning(), os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "chosen, expected",
    [
        ({}, "True 1000 False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "False None False"),
        ({"GOMP_SPINCOUNT": "7"}, "False 7 False"),
        ({"KMP_BLOCKTIME": "0"}, "False None False"),
    ],
)
def test_spinning_is_limited_where_nobody_chose(chosen: dict[str, str], expected: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | chosen
    done = subprocess.run([sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_nothing_is_set_once_torch_has_read_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401

    from maskformer_ext.cli.threads import limit_spinning

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    assert not limit_spinning() and "GOMP_SPINCOUNT" not in os.environ


def test_train_limits_spinning_before_torch_is_loaded(tmp_path) -> None:
    """An unknown key ends the command, after this was set and before anything heavy."""
    code = (
        "import os, sys\nfrom maskformer_ext.train import main\nstatus = main(['config=digits', 'train.nonsense=1'])\n"
        "print(status, os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "2 1000 False"
