"""The usual extension of deformable attention, on ``ms_deform_attn``.

Checkouts of Deformable DETR, Mask2Former, Mask DINO and their like import a module of compiled functions,
``MultiScaleDeformableAttention``. They fail where it is not built. One call offers ours under that name to the running
process:

    from maskformer_ext.integrations.deformable_detr import provide_extension
    provide_extension()               # before the first import of the checkout's code

Ours runs on CPUs too, takes bfloat16 and float16, and gives the same bits from run to run. Nothing is written to disk.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from maskformer_ext.errors import UserError
from maskformer_ext.ops.ms_deform_attn import ms_deform_attn
from maskformer_ext.ops.support.library import native

EXTENSION = "MultiScaleDeformableAttention"

_former: list[types.ModuleType | None] = []  # what had the name before ours, while ours has it
_known_sizes: Any = WeakTensorKeyDictionary()  # by tensor on a GPU: its version and its values


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sample and sum, as the extension's function of this name; here it is differentiable too.

    Args:
        value: (B, S, H, D) floating, the cells of all levels one after the other.
        spatial_shapes: (L, 2) integers, height and width per level. On a GPU the values are waited for once per tensor,
            not once per call. Tensors made under ``inference_mode`` are waited for in each call.
        level_start_index: not used; it follows from spatial_shapes.
        sampling_locations: (B, Q, H, L, P, 2) floating, x and y as fractions of a level's width and height.
        attention_weights: (B, Q, H, L, P) floating.
        im2col_step: not used; any number of images is taken at once.

    Returns:
        (B, Q, H * D) of value's dtype.

    Raises:
        TypeError: a tensor is not floating, or spatial_shapes is no tensor of integers.
        ValueError: shapes or devices do not fit.
    """
    return ms_deform_attn(value, _sizes(spatial_shapes), sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to value, sampling_locations and attention_weights, as the extension's function does.

    Args:
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step: as in the forward.
        grad_output: (B, Q, H * D), the gradient to its result.
    """
    sizes = _sizes(spatial_shapes)
    if native("ms_deform_attn_backward", value, sampling_locations, attention_weights, grad_output):
        flat = sampling_locations.flatten(3, 4), attention_weights.flatten(3)
        numbers = [number for size in sizes for number in size], [sampling_locations.shape[4]] * len(sizes)
        grad_value, grad_locations, grad_weights = torch.ops.maskformer_ext.ms_deform_attn_backward(
            grad_output.to(value.dtype), value, numbers[0], *flat, numbers[1], False, True, True
        )
        return grad_value, grad_locations.view_as(sampling_locations), grad_weights.view_as(attention_weights)
    inputs = [tensor.detach().requires_grad_() for tensor in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        result = ms_deform_attn(inputs[0], sizes, *inputs[1:])
    grad_value, grad_locations, grad_weights = torch.autograd.grad(result, inputs, grad_output.to(result.dtype))
    return grad_value, grad_locations, grad_weights


class MSDeformAttnFunction:
    """The usual function of this name: ``MSDeformAttnFunction.apply(...)``, with the arguments of the forward."""

    apply = staticmethod(ms_deform_attn_forward)


def provide_extension(*, replace: bool = False) -> types.ModuleType:
    """Offer our functions as the module ``MultiScaleDeformableAttention`` to the running process.

    Call it before the first import of code that imports this module. A second call changes nothing.

    Args:
        replace: take the name even where another module has it. Code that has imported the other one keeps it.

    Returns:
        The module, with ``ms_deform_attn_forward`` and ``ms_deform_attn_backward``.

    Raises:
        UserError: another module of this name is imported or installed, and replace is False.
    """
    present = sys.modules.get(EXTENSION)
    if _is_ours(present):
        return present  # type: ignore[return-value]
    if not replace:
        where = _place(present)
        if where:
            raise UserError(
                f"provide_extension: the name {EXTENSION} must be free, but a module has it ({where}): "
                "use that one, or call provide_extension(replace=True)"
            )
    module = types.ModuleType(EXTENSION, "maskformer_ext's functions under the name of the usual extension.")
    module.__spec__ = importlib.machinery.ModuleSpec(EXTENSION, None, origin=__name__)
    module.__dict__.update(
        ms_deform_attn_forward=ms_deform_attn_forward, ms_deform_attn_backward=ms_deform_attn_backward
    )
    _former.append(present)
    sys.modules[EXTENSION] = module
    return module


def withdraw_extension() -> None:
    """Undo `provide_extension`. Code that has imported our module keeps it."""
    if _is_ours(sys.modules.get(EXTENSION)):
        former = _former.pop()
        if former is None:
            del sys.modules[EXTENSION]
        else:
            sys.modules[EXTENSION] = former


def _is_ours(module: types.ModuleType | None) -> bool:
    return getattr(module, "ms_deform_attn_forward", None) is ms_deform_attn_forward


def _place(present: types.ModuleType | None) -> str:
    """Return where a module of the extension's name is, "" if there is none."""
    if present is not None:
        return getattr(present, "__file__", None) or "imported"
    spec = importlib.util.find_spec(EXTENSION)
    return "" if spec is None else spec.origin or "installed"


def _sizes(spatial_shapes: Tensor) -> list[list[int]]:
    """Read sizes from a tensor; those of a tensor on a GPU are kept for as long as it lives and is not changed."""
    if not isinstance(spatial_shapes, Tensor) or spatial_shapes.is_floating_point() or spatial_shapes.dim() != 2:
        got = tuple(spatial_shapes.shape) if isinstance(spatial_shapes, Tensor) else type(spatial_shapes).__name__
        raise TypeError(f"ms_deform_attn_forward: spatial_shapes must be a tensor (L, 2) of integers, got {got}")
    if spatial_shapes.device.type == "cpu" or spatial_shapes.is_inference() or torch.compiler.is_compiling():
        return spatial_shapes.tolist()
    version, sizes = _known_sizes.get(spatial_shapes, (None, None))
    if version != spatial_shapes._version:
        sizes = spatial_shapes.tolist()
        _known_sizes[spatial_shapes] = (spatial_shapes._version, sizes)
    return sizes
