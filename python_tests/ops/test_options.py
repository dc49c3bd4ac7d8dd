"""Every op refuses options that would give a wrong result without a word, and dtypes that it has no kernel for."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from op_samples import Sample, all_samples

from maskformer_ext import ops
from maskformer_ext.ops import MaskTargets, catalog


def having(*options: str) -> dict[str, Sample]:
    """Return a call of every public function that has these options, by its name."""
    found: dict[str, Sample] = {}
    for param in all_samples():
        (sample,) = param.values
        if set(options) <= inspect.signature(sample.function).parameters.keys():
            found.setdefault(sample.function.__name__, sample)
    return found


COSTS, FOCAL, INFERENCE = (
    having("class_weight"),
    having("alpha", "gamma"),
    having("class_logits", "size"),
)
LOSSES = {name: call for name, call in FOCAL.items() if name not in COSTS}
ALL = FOCAL | INFERENCE


def weights_of(call: Sample) -> list[str]:
    """Return the names of a cost's weights."""
    return [name for name in inspect.signature(call.function).parameters if name.endswith("_weight")]


NO_NUMBERS = [("1", TypeError), (None, TypeError), (True, TypeError), (math.nan, ValueError), (math.inf, ValueError)]
BEYOND_FLOAT32 = [1e300, -1e300, 10**39, -(10**5000), torch.tensor(1e300, dtype=torch.float64)]


@pytest.mark.parametrize("name", FOCAL)
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"alpha": 1.1}, ValueError, r"alpha must lie in \[0, 1\], or be negative for no weights, got 1\.1"),
        ({"alpha": -math.inf}, ValueError, "alpha must be finite, got -inf"),
        ({"gamma": -0.5}, ValueError, r"gamma must not be negative, got -0\.5"),
        *(({"alpha": value}, kind, "alpha must be") for value, kind in NO_NUMBERS),
        *(({"gamma": value}, kind, "gamma must be") for value, kind in NO_NUMBERS),
    ],
    ids=str,
)
def test_focal_options_out_of_range_are_named(name, options, kind, message):
    with pytest.raises(kind, match=f"^{name}: {message}"):
        ALL[name](**options)


@pytest.mark.parametrize(("name", "weight"), [(name, w) for name, call in COSTS.items() for w in weights_of(call)])
@pytest.mark.parametrize(("value", "kind"), NO_NUMBERS, ids=str)
def test_weights_of_costs_must_be_finite_numbers(name, weight, value, kind):
    with pytest.raises(kind, match=f"^{name}: {weight} must be (finite|a number), got"):
        COSTS[name](**{weight: value})


@pytest.mark.parametrize("value", BEYOND_FLOAT32, ids=range(5))
def test_numbers_beyond_float32_are_refused_since_kernels_would_make_them_infinite(value):
    calls = [(call, "alpha") for call in FOCAL.values()]
    calls += [(call, name) for call in COSTS.values() for name in weights_of(call)]
    calls += [(INFERENCE["semantic_scores"], "weight"), (INFERENCE["panoptic_inference"], "overlap_threshold")]
    for call, name in calls:
        with pytest.raises(ValueError, match=f"{name} must not be beyond float32, got"):
            call(**{name: value})


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), np.int64(1), torch.tensor(0.25), -3])
def test_numbers_of_any_kind_are_numbers(value):
    for call in FOCAL.values():
        expected, found = call(alpha=float(value)), call(alpha=value)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_an_alpha_that_float32_would_round_to_0_still_means_no_weights():
    cost = COSTS["matching_cost"]
    assert torch.equal(cost(alpha=-1e-60), cost(alpha=-1.0))


@pytest.mark.parametrize("name", having("ignore_void"))
@pytest.mark.parametrize("value", ["false", "no", 0, None])
def test_what_is_no_truth_value_is_named(name, value):
    with pytest.raises(TypeError, match=f"^{name}: ignore_void must be True or False, got"):
        ALL[name](ignore_void=value)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("semantic_inference", {"flip": "no"}, TypeError, "flip must be True or False, got 'no'"),
        ("semantic_scores", {"flip": 0}, TypeError, "flip must be True or False, got 0"),
        ("semantic_scores", {"weight": math.nan}, ValueError, "weight must be finite, got nan"),
        ("semantic_scores", {"weight": "1"}, TypeError, "weight must be a number, got '1'"),
        ("semantic_scores", {"out": np.zeros((4, 8, 8))}, TypeError, "out must be a Tensor, got ndarray"),
        ("panoptic_inference", {"object_mask_threshold": math.nan}, ValueError, "object_mask_threshold must be finite"),
        ("panoptic_inference", {"overlap_threshold": "0.8"}, TypeError, "overlap_threshold must be a number"),
        ("panoptic_inference", {"mask_threshold": math.inf}, ValueError, "mask_threshold must be finite"),
        ("panoptic_inference", {"thing_classes": "12"}, TypeError, "thing_classes must be a collection of integers"),
        ("panoptic_inference", {"thing_classes": [1.5]}, TypeError, r"thing_classes must be an integer, got 1\.5"),
        (
            "panoptic_inference",
            {"thing_classes": [False, True]},
            TypeError,
            "thing_classes must be an integer, got Fal",
        ),
        ("panoptic_inference", {"thing_classes": b"01"}, TypeError, "thing_classes must be a collection of integers"),
        ("panoptic_inference", {"thing_classes": torch.tensor(1)}, TypeError, "thing_classes must be a collection of"),
        ("panoptic_inference", {"thing_classes": [10**30]}, ValueError, "thing_classes must hold numbers of 64 bits"),
        ("semantic_inference", {"resize": np.zeros(2)}, ValueError, "resize must be one of logits, scores, got array"),
        ("semantic_inference", {"input_size": torch.tensor(8)}, TypeError, "input_size must be .height, width., got"),
        ("semantic_inference", {"input_size": (8, 10**30)}, ValueError, "input_size must be .height, width., each"),
        ("instance_inference", {"thing_classes": ["1"]}, TypeError, "thing_classes must be an integer, got '1'"),
        ("instance_inference", {"mask_threshold": math.nan}, ValueError, "mask_threshold must be finite, got nan"),
        ("instance_inference", {"mask_threshold": 1.5}, ValueError, "mask_threshold must lie between 0 and 1"),
        ("instance_inference", {"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ("instance_inference", {"top_k": -5}, ValueError, "top_k must be at least 1, got -5"),
        ("instance_inference", {"top_k": 2.5}, TypeError, r"top_k must be an integer, got 2\.5"),
        ("instance_inference", {"top_k": "7"}, TypeError, "top_k must be an integer, got '7'"),
    ],
    ids=str,
)
def test_options_of_inference_are_checked(name, options, kind, message):
    with pytest.raises(kind, match=f"^{name}: {message}"):
        INFERENCE[name](**options)


@pytest.mark.parametrize("name", INFERENCE)
@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((10**30, 8), ValueError),
        ((True, 8), TypeError),
        (torch.tensor(8), TypeError),
        ((8.5, 8), TypeError),
        ("88", TypeError),
        (8, TypeError),
        ((8, -1), ValueError),
        ({8, 9}, TypeError),  # it would come out in any order
        ({8: 1, 9: 2}, TypeError),
        ((8, torch.tensor(True)), TypeError),
    ],
    ids=str,
)
def test_sizes_are_pairs_of_integers(name, size, kind):
    with pytest.raises(kind, match=f"^{name}: size must be"):
        INFERENCE[name](size=size)


def test_top_k_beyond_all_pairs_costs_nothing():
    torch.manual_seed(0)
    predictions = torch.randn(3, 5), 5 * torch.randn(3, 4, 4)
    everything = ops.instance_inference(*predictions, (8, 8), top_k=12)
    found = ops.instance_inference(*predictions, (8, 8), top_k=10**15)  # as many rows would not fit into memory
    assert len(found) == len(everything) > 0
    assert torch.equal(found.scores, everything.scores) and torch.equal(found.masks, everything.masks)


@pytest.mark.parametrize("name", having("targets", "ignore_void"))
@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e5m2])
def test_masks_of_other_dtypes_are_refused(name, dtype):
    call = ALL[name]
    targets = call.rest["targets"].to_masks()
    masks = MaskTargets(targets.masks.float().to(dtype), targets.labels, targets.num_segments)
    with pytest.raises(TypeError, match=rf"^{name}: targets must be .*, got {dtype}"):
        call(targets=masks)


def test_messages_stay_on_one_short_line():
    given = torch.rand(40, 40)
    for options in ({"resize": given}, {"size": given[0, 0]}, {"size": given}, {"mask_threshold": given}):
        with pytest.raises((TypeError, ValueError)) as caught:
            INFERENCE["panoptic_inference"](**options)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_ops_of_every_family_are_among_them():
    assert LOSSES.keys() == {"mask_loss", "matched_mask_loss", "sigmoid_focal_loss"}
    assert COSTS.keys() >= {"box_matching_cost", "matching_cost", "matching_cost_from_embeddings"}
    assert INFERENCE.keys() == {name for op in catalog.OPS if op.name.endswith("inference") for name in op.functions}


def test_mask_dot_gives_no_dtype_that_cannot_hold_its_result():
    product = having("activation")["mask_dot"]
    for activation in ("none", "sigmoid"):
        with pytest.raises(TypeError, match=f"mask_dot: out_dtype must be floating with activation {activation}, got"):
            product(activation=activation, out_dtype=torch.int32)
    with pytest.raises(TypeError, match="mask_dot: out_dtype must be bool, uint8 or floating with activation binary"):
        product(activation="binary", out_dtype=torch.int64)
