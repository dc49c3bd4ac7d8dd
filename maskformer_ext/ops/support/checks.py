"""Argument checks that several ops share; each raises one sentence: argument, what it must be, what it was."""

import operator
from collections.abc import Iterable
from math import inf
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The floating dtypes that ops take; float64 goes to the references."""
_FLOATING_NAMES = "float32, bfloat16, float16 or float64"
_LARGEST = torch.finfo(torch.float32).max
WITHOUT_VALUES = frozenset({"meta"})
"""Devices whose tensors have shapes only."""


def shape(tensor: Tensor) -> str:
    """Write a tensor's shape as a tuple."""
    return str(tuple(tensor.shape))


def shown(value: object) -> str:
    """Write a value for a message: on one line, and no more than its beginning."""
    return " ".join(f"{value!r:.200}".split())


def check_tensor(op: str, name: str, value: object) -> None:
    """Raise TypeError unless the value is a tensor whose elements lie in memory by strides."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else value.layout
        raise TypeError(f"{op}: {name} must be a dense Tensor, got {kind}")


def check_floating(op: str, **tensors: Tensor) -> None:
    """Raise TypeError unless every tensor is of a floating dtype that ops take."""
    for name, tensor in tensors.items():
        check_tensor(op, name, tensor)
        if not tensor.is_floating_point():
            raise TypeError(f"{op}: {name} must have a floating dtype, got {tensor.dtype}")
        if tensor.dtype not in FLOATING:
            raise TypeError(f"{op}: {name} must be {_FLOATING_NAMES}, got {tensor.dtype}")


def check_target_dtype(op: str, targets: Tensor) -> None:
    """Raise TypeError unless targets is bool, uint8 or of a floating dtype that ops take."""
    check_tensor(op, "targets", targets)
    if targets.is_floating_point():
        check_floating(op, targets=targets)
    elif targets.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f"{op}: targets must be bool, uint8 or floating, got {targets.dtype}")


def check_integer(op: str, **tensors: Tensor) -> None:
    """Raise TypeError unless every tensor is of an integer dtype other than bool."""
    for name, tensor in tensors.items():
        check_tensor(op, name, tensor)
        if tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized or tensor.dtype == torch.bool:
            raise TypeError(f"{op}: {name} must have an integer dtype, got {tensor.dtype}")


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    """Raise ValueError unless all tensors (None is skipped) are on the device of the first."""
    first_name, first = None, None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if first is None:
            first_name, first = name, tensor
        elif tensor.device != first.device:
            raise ValueError(f"{op}: {name} must be on {first.device} as {first_name} is, got {tensor.device}")


def check_has_values(op: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor of the meta device, where the shape of the result follows from values."""
    if tensor.device.type in WITHOUT_VALUES:
        raise ValueError(f"{op}: inputs must have values, since the result's shape follows from them, got meta tensors")


def check_choice(op: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {shown(value)}")


def check_flag(op: str, **flags: object) -> None:
    """Raise TypeError unless every value is True or False; the text "false", say, would count as true."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{op}: {name} must be True or False, got {shown(value)}")


def check_finite(op: str, **numbers: Any) -> None:
    """Raise TypeError unless every value is a number, ValueError unless it is finite, in float32 as well.

    A truth value counts as no number: in the place of one, it is an argument that slipped.
    """
    for name, value in numbers.items():
        if type(value) is float and -_LARGEST <= value <= _LARGEST:  # what nearly every call passes
            continue
        if isinstance(value, Tensor):
            value = value.item() if value.dim() == 0 else value
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{op}: {name} must be a number, got {shown(value)}")
        number: Any = value  # compared as it is: an integer may be beyond every float
        if not -inf < number < inf:
            raise ValueError(f"{op}: {name} must be finite, got {number}")
        if not -_LARGEST <= number <= _LARGEST:
            raise ValueError(f"{op}: {name} must not be beyond float32, got {_digits(number)}")


def _digits(value: Any) -> str:
    """Write a number; Python refuses to write an integer of thousands of digits."""
    return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else str(value)


def check_focal(op: str, alpha: float, gamma: float) -> None:
    """Raise unless alpha is a finite number of at most 1 and gamma one that is not negative."""
    check_finite(op, alpha=alpha, gamma=gamma)
    if alpha > 1:
        raise ValueError(f"{op}: alpha must lie in [0, 1], or be negative for no weights, got {alpha}")
    if gamma < 0:
        raise ValueError(f"{op}: gamma must not be negative, got {gamma}")


def whole_number(op: str, name: str, value: Any) -> int:
    """Return an integer as an int (a symbolic one as it is); raise TypeError for anything else, truth values too."""
    if type(value) is int or isinstance(value, torch.SymInt):  # `index` would tie a compiled graph to the number
        return value  # type: ignore[return-value]
    try:
        if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {shown(value)}") from None


def whole_numbers(op: str, name: str, values: Iterable[int]) -> list[int]:
    """Return distinct integers in ascending order; raise TypeError for anything else, ValueError beyond int64."""
    single = isinstance(values, Tensor | np.ndarray) and values.ndim == 0  # iterable by its type, not by its shape
    if isinstance(values, str | bytes) or single or not isinstance(values, Iterable):
        raise TypeError(f"{op}: {name} must be a collection of integers, got {shown(values)}")
    numbers = sorted({whole_number(op, name, value) for value in values})
    if numbers and not -(2**63) <= numbers[0] <= numbers[-1] < 2**63:
        raise ValueError(f"{op}: {name} must hold numbers of 64 bits, got larger ones")
    return numbers
