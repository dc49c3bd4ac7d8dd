"""The upscale block of EoMT in transformers: every layer runs it at 16 times the pixels, so it keeps little."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from maskformer_ext.integrations.transformers_models.parts import Part
from maskformer_ext.ops.support.library import transformed, without_autocast


class ScaleLayer(nn.Module):
    """Before ``EomtScaleLayer`` and its copy: backward computes the activation again instead of keeping it."""

    conv1: nn.Module
    activation: nn.Module
    conv2: nn.Module
    layernorm2d: nn.Module

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Double height and width; argument and result as in transformers."""
        filtered = upscale_and_filter(hidden_states, self.conv1, self.activation, self.conv2)
        return super().forward(hidden_states) if filtered is None else self.layernorm2d(filtered)


def upscale_and_filter(x: Tensor, conv1: nn.Module, activation: nn.Module, conv2: nn.Module) -> Tensor | None:
    """Run the three modules on (B, C, h, w), keeping the input of the activation but not its result.

    Returns:
        (B, C, 2 h, 2 w), or None where they are to run as they are: without gradients, compiled, or with adapters or
        hooks.
    """
    transforming = torch.compiler.is_compiling() or transformed()
    if transforming or not torch.is_grad_enabled() or not _is_plain(conv1, activation, conv2):
        return None
    device = x.device.type
    inputs: tuple[Any, ...] = x, conv1.weight, conv1.bias, conv2.weight
    if torch.is_autocast_enabled(device):
        inputs = tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in inputs)
    return _UpscaleAndFilter.apply(*inputs, activation)


def _is_plain(conv1: nn.Module, activation: nn.Module, conv2: nn.Module) -> bool:
    """Return whether the convolutions are what transformers makes, without adapters and hooks."""
    modules = conv1, activation, conv2
    return (
        type(conv1) is nn.ConvTranspose2d
        and type(conv2) is nn.Conv2d
        and conv1.kernel_size == conv1.stride == (2, 2)
        and conv1.bias is not None
        and conv2.bias is None
        and conv2.groups == conv2.in_channels
        and not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
        and not any(module._backward_hooks or module._backward_pre_hooks for module in modules)
    )


class _UpscaleAndFilter(torch.autograd.Function):
    """A transposed convolution of stride 2, an activation, and a 3x3 filter per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kernels: Tensor, activation: Any) -> Tensor:
        with without_autocast(x):
            wide = F.conv_transpose2d(x, weight, bias, stride=2)
            ctx.save_for_backward(x, weight, kernels, wide)
            ctx.activation = activation
            return F.conv2d(activation(wide), kernels, padding=1, groups=len(kernels))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, weight, kernels, wide = ctx.saved_tensors
        with without_autocast(x):
            with torch.enable_grad():
                wide = wide.detach().requires_grad_()
                active = ctx.activation(wide)
            filtered = (active.detach(), kernels, None, (1, 1), (1, 1), (1, 1), False, (0, 0), len(kernels))
            needed = (True, ctx.needs_input_grad[3], False)
            grad_active, grad_kernels, _ = torch.ops.aten.convolution_backward(grad, *filtered, needed)
            (grad_wide,) = torch.autograd.grad(active, wide, grad_active)
            del active, filtered, grad_active
            return *_transposed_backward(grad_wide, x, weight, ctx.needs_input_grad[:3]), grad_kernels, None


def _transposed_backward(grad: Tensor, x: Tensor, weight: Tensor, needed: Any) -> tuple:
    """Return the gradients of input, weight and bias of the transposed convolution."""
    if grad.device.type != "cpu" or grad.dtype != torch.float32:
        return torch.ops.aten.convolution_backward(
            grad, x, weight, (weight.shape[1],), (2, 2), (0, 0), (1, 1), True, (0, 0), 1, needed
        )
    grad_x = F.conv2d(grad, weight, stride=2) if needed[0] else None
    if not needed[1]:
        return grad_x, None, grad.sum((0, 2, 3)) if needed[2] else None
    # Four products, one per tap: torch's own takes nearly twice the time.
    columns = x.permute(1, 0, 2, 3).flatten(1)
    taps = [
        columns @ grad[:, :, row::2, column::2].permute(0, 2, 3, 1).flatten(0, 2) for row in (0, 1) for column in (0, 1)
    ]
    grad_weight = torch.stack(taps, -1).unflatten(-1, (2, 2))
    return grad_x, grad_weight, grad.sum((0, 2, 3)) if needed[2] else None


UPSCALE_BY = "activation computed again in backward, products for the weight's gradient"
UPSCALE_PARTS = (
    Part(
        ("EomtScaleLayer", "EomtDinov3ScaleLayer"),
        ScaleLayer,
        UPSCALE_BY,
        needs=("conv1", "activation", "conv2", "layernorm2d"),
    ),
)
