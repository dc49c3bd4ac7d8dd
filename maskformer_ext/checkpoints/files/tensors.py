"""What a weight may be: a plain tensor of real numbers, not quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.errors import UserError

# What a weight may be: complex and quantised numbers, bits and pairs in a byte are not the numbers that they stand for.
_REAL = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


def check_tensor(name: str, value: Any, where: str) -> Tensor:
    """Return a weight that is a plain tensor in memory: dense, of real numbers, without a gradient.

    Args:
        name: of the weight.
        value: the tensor.
        where: what the error begins with.

    Raises:
        UserError: if it is sparse, quantised, nested, complex, without data, or of a subclass with a meaning of its
            own.
    """
    if type(value) not in (Tensor, torch.nn.Parameter):
        what = f"a {type(value).__name__}"
    elif value.is_quantized or value.is_nested or value.layout != torch.strided:
        what = "a quantised, nested or sparse tensor"
    elif value.device.type == "meta":
        what = "a tensor without data"
    elif value.dtype not in _REAL:
        what = f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    else:
        return value.detach().resolve_neg()
    raise UserError(f"{where}: {name} must be a dense tensor of real numbers, got {what}")


def check_kind(name: str, value: Tensor, target: Tensor, source: str | Path) -> None:
    """Raise `UserError` if integers stand where a model has floating-point numbers: they are quantised."""
    if target.is_floating_point() and not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{source}: {name} must be floating-point numbers, got {kind}: weights must not be quantised")


def check_fit(value: Tensor | None, target: Tensor, key: str, problem: str) -> Tensor:
    """Return a weight that can take the place of a network's.

    Args:
        value: the weight; None where there is none.
        target: the network's own.
        key: their name.
        problem: what the error begins with.

    Raises:
        UserError: if it is missing, of another shape, or not of floating-point numbers.
    """
    if value is None or value.shape != target.shape:
        got = "no such entry" if value is None else str(tuple(value.shape))
        raise UserError(f"{problem}: {key} must be {tuple(target.shape)}, got {got}")
    check_kind(key, value, target, problem)
    return value
