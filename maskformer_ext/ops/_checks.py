"""Argument checks that several ops share; each raises one sentence: argument, what it must be, what it was."""

from torch import Tensor


def shape(tensor: Tensor) -> str:
    """Write a tensor's shape as a tuple."""
    return str(tuple(tensor.shape))


def check_tensor(op: str, name: str, value: object) -> None:
    """Raise TypeError unless the value is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, got {type(value).__name__}")


def check_floating(op: str, **tensors: Tensor) -> None:
    """Raise TypeError unless every tensor is of a floating dtype."""
    for name, tensor in tensors.items():
        check_tensor(op, name, tensor)
        if not tensor.is_floating_point():
            raise TypeError(f"{op}: {name} must have a floating dtype, got {tensor.dtype}")


def check_integer(op: str, **tensors: Tensor) -> None:
    """Raise TypeError unless every tensor is of an integer dtype other than bool."""
    for name, tensor in tensors.items():
        check_tensor(op, name, tensor)
        if tensor.is_floating_point() or tensor.is_complex() or str(tensor.dtype) == "torch.bool":
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


def check_choice(op: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {value!r}")
