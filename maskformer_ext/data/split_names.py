"""What people and tools call the splits of a data set, in small letters."""

from __future__ import annotations

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation", "dev")
TEST = ("test", "testing")

VALIDATING = (*VAL, *TEST)
"""The splits that validate, the best first: test images do where there are no others."""
