"""The self-test of `doctor`: every op against its reference, in every dtype, and one small model from end to end."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.cli.extras import missing_package
from maskformer_ext.cli.health.findings import NOTE, OK, TROUBLE, Section
from maskformer_ext.cli.health.op_calls import Call, op_calls
from maskformer_ext.errors import why
from maskformer_ext.ops import counting
from maskformer_ext.ops.catalog import NUMPY_OPS, OPS

# The largest difference from the reference in float64, as a share of the largest value. Results are rounded to the
# narrow type, and torch computes some parts in it.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
# Decisions at a threshold may fall otherwise where a value is rounded: the share that may.
_DECISIONS = {torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}
_REMEDY = "build the kernels again with `make build`, and report it with `maskformer-ext doctor json=FILE`"


def check_ops(device: str) -> Section:
    """Compare every op of tensors with its reference on a device, and those of arrays with NumPy on the CPU."""
    section = Section(f"self-test of ops ({device})")
    calls = op_calls()
    for op in OPS:
        _check_op(section, op.name, calls[op.name].to(device), op.differentiable)
    if device == "cpu":
        for op in NUMPY_OPS:
            _check_counting(section, op.name)
    return section


def check_model() -> Section:
    """Build a small model, and segment an image that is drawn for it."""
    section = Section("self-test of a model")
    try:
        from maskformer_ext.checkpoints.models import build_model
        from maskformer_ext.config import ModelConfig
        from maskformer_ext.inference import segment

        config = ModelConfig(backbone="resnet18", num_classes=3, num_queries=8, decoder_layers=1, num_heads=2)
        config.pixel_decoder_dim = config.hidden_dim = config.feedforward_dim = 32
        torch.manual_seed(0)
        model = build_model(config).eval()
        image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the weights are random, and meant to be
            classes = segment(model, image, task="semantic").class_map
        milliseconds = 1000 * (time.perf_counter() - started)
        right = tuple(classes.shape) == (96, 128) and 0 <= int(classes.min()) and int(classes.max()) < 3
    except ImportError as error:
        missing = missing_package(error)
        section.add("segment", "not tried", NOTE if missing else TROUBLE, str(missing or why(error)))
    except Exception as error:  # whatever it is, it goes into the report
        section.add("segment", f"{type(error).__name__}: {why(error)}", TROUBLE, _REMEDY)
    else:
        told = f"{'classes of' if right else 'wrong classes for'} an image of 96x128 in {milliseconds:.0f} ms"
        section.add("segment", told, OK if right else TROUBLE, "" if right else _REMEDY)
    return section


def _check_op(section: Section, name: str, call: Call, differentiable: bool) -> None:
    told, wrong = [], []
    for dtype, tolerance in _TOLERANCES.items():
        rounded = {key: value.to(dtype) for key, value in call.floating.items()}
        try:
            _run(call, rounded, differentiable)  # threads and tables start with the first call
            started = time.perf_counter()
            ours = _run(call, rounded, differentiable)
            if any(part.is_cuda for part in ours):
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            reference = _run(call, {key: value.double() for key, value in rounded.items()}, differentiable)
            difference, share = _differences(ours, reference)
        except Exception as error:  # whatever it is, it goes into the report
            wrong.append(f"{_name(dtype)}: {type(error).__name__}: {why(error)}")
            continue
        if not (difference <= tolerance and share <= _DECISIONS[dtype]):
            what = f"{difference:.1e} from the reference" if not difference <= tolerance else f"{share:.1%} decide else"
            wrong.append(f"{_name(dtype)}: {what}")
        told.append(f"{_name(dtype)} {1000 * seconds:.2f} ms")
    if wrong:
        section.add(name, "; ".join(wrong), TROUBLE, _REMEDY)
    else:
        section.add(name, ", ".join(told) + (", with gradients" if differentiable else ""))


def _run(call: Call, floating: dict[str, Tensor], differentiable: bool) -> list[Tensor]:
    """Return the tensors of the result, and after them the gradients of their sum."""
    if not differentiable:
        return list(_tensors(call.function(**floating, **call.rest)))
    names = call.wrt or tuple(floating)
    leaves = {key: value.clone().requires_grad_(key in names) for key, value in floating.items()}
    results = list(_tensors(call.function(**leaves, **call.rest)))
    total = sum((part.double().sum() for part in results if part.requires_grad), torch.zeros(()))
    gradients = torch.autograd.grad(total, [leaves[key] for key in names])
    return [part.detach() for part in results] + list(gradients)


def _differences(ours: list[Tensor], reference: list[Tensor]) -> tuple[float, float]:
    """Return the largest relative difference of numbers, and the share of decisions that differ."""
    largest, share = 0.0, 0.0
    if len(ours) != len(reference) or any(a.shape != b.shape for a, b in zip(ours, reference, strict=True)):
        return float("inf"), 1.0
    for a, b in zip(ours, reference, strict=True):
        if not a.numel():
            continue
        if a.is_floating_point():
            difference = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-12)
            largest = max(largest, float("inf") if difference.isnan() else float(difference))
        else:
            share = max(share, float((a != b).double().mean()))
    return largest, share


def _tensors(result: Any) -> Iterator[Tensor]:
    """Yield the tensors of a result, however they are packed."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)
    elif is_dataclass(result):
        for field in fields(result):
            yield from _tensors(getattr(result, field.name))


def _check_counting(section: Section, name: str) -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, (2, 200, 300))
    started = time.perf_counter()
    try:
        counts = counting.joint_histogram(first, second, 9, 9)
        milliseconds = 1000 * (time.perf_counter() - started)
        one, two, areas = counting.pair_areas(first, second)
    except Exception as error:  # whatever it is, it goes into the report
        section.add(name, f"{type(error).__name__}: {why(error)}", TROUBLE, _REMEDY)
        return
    expected = np.bincount((first * 9 + second).ravel(), minlength=81).reshape(9, 9)
    if np.array_equal(counts, expected) and np.array_equal(expected[one, two], areas):
        section.add(name, f"int64 {milliseconds:.2f} ms")
    else:
        section.add(name, "counts differ from NumPy's", TROUBLE, _REMEDY)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
