"""The 16-bit mask probabilities of semantic_inference: their error bound, held against every input."""

import re
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(__file__).parents[2] / "csrc" / "semantic_inference" / "fixed_point.h"
ONE, STEPS, LARGEST, MOST_HALVINGS = 32768, 2048, 16383, 13
SLACK = 4.0  # of mask_error(), beside the slope times the error of the logit, which is never below 1.05 steps


def coefficients(name):
    """Return a table of the header."""
    numbers = re.search(rf"{name}\[8\] = {{([^}}]*)}}", HEADER.read_text())
    assert numbers is not None
    return np.array([int(number) for number in numbers[1].split(",")])


def multiply_rounded(a, b):
    """Multiply as pmulhrsw does."""
    return (a * b + (1 << 14)) >> 15


def fixed_sigmoid(x, halvings):
    """Compute what FixedSigmoid computes, in wide integers, so that no overflow stays unseen."""
    magnitude = np.minimum(np.abs(x), LARGEST >> halvings) << halvings
    segment, t = magnitude >> 11, ((magnitude & 2047) << 5) - 32768
    p = coefficients("kCubic")[segment]
    for name in ("kSquare", "kLinear", "kConstant"):
        p = multiply_rounded(p, t) + coefficients(name)[segment]
        assert np.abs(p).max() <= 32767
    return np.where(x < 0, 32767 - p, p)


def sigmoid(steps):
    return ONE / (1 + np.exp(-np.clip(steps / STEPS, -700, 700)))


@pytest.mark.parametrize("error", [1.05, 1.55, 4.6])
@pytest.mark.parametrize("halvings", range(MOST_HALVINGS + 1))
def test_no_mask_is_wrong_by_more_than_the_bound(halvings, error):
    x = np.arange(-LARGEST, LARGEST + 1)
    mask = fixed_sigmoid(x, halvings)
    assert mask.min() >= 0
    assert mask.max() < ONE
    size = 2.0**halvings
    for true in (x - error, x + error):  # the sigmoid is monotonic, so the ends of the interval are enough
        assert np.abs(mask - sigmoid(true * size)).max() <= 4 * error * size + SLACK - 0.05


def test_the_header_has_the_constants_that_are_tested():
    text = HEADER.read_text()
    for line in ("kOne = 32768.0f", "kLogitSteps = 2048.0f", "kLargest = 16383", "kMostHalvings = 13"):
        assert line in text
    assert "4.0f * std::ldexp(steps, halvings) + 4.0f" in text
