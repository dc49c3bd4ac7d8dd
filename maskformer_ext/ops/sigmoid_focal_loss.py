"""Sigmoid focal loss of each element, with torchvision's signature."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support.checks import check_choice, check_floating, check_focal, check_same_device, shape
from maskformer_ext.ops.support.library import native, once_differentiable, register

_OP = "sigmoid_focal_loss"
_REDUCTIONS = ("none", "mean", "sum")  # the kernel's numbers


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Compute the focal loss of logits against targets between 0 and 1.

    Args:
        inputs: logits of any shape, floating.
        targets: of the same shape, floating; 0 and 1, or anything between (then p_t and alpha_t are interpolated).
        alpha: weight of positives, 1 - alpha that of negatives; negative: no weights.
        gamma: exponent of the modulating factor (1 - p_t); 0 gives binary cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, of the inputs' dtype: elementwise, or a scalar.

    Raises:
        TypeError: inputs or targets are not floating, or alpha or gamma is no number.
        ValueError: the shapes or devices differ, or alpha, gamma or reduction is out of range.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (arXiv 1708.02002), equation 5.
    """
    check_floating(_OP, inputs=inputs, targets=targets)
    check_same_device(_OP, inputs=inputs, targets=targets)
    if inputs.shape != targets.shape:
        raise ValueError(f"{_OP}: targets must have the shape of inputs, {shape(inputs)}, got {shape(targets)}")
    check_focal(_OP, alpha, gamma)
    check_choice(_OP, "reduction", reduction, _REDUCTIONS)
    if native(_OP, inputs, targets) and not targets.requires_grad:
        kind = _REDUCTIONS.index(reduction)
        loss = torch.ops.maskformer_ext.sigmoid_focal_loss(inputs, targets, float(alpha), float(gamma), kind)
        return loss if reduction == "none" else loss.to(inputs.dtype)  # sums come in float32
    loss = focal_reference(_widen(inputs), _widen(targets), alpha, gamma)
    if reduction != "none":
        loss = loss.mean() if reduction == "mean" else loss.sum()
    return loss.to(inputs.dtype)


def focal_reference(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Compute the focal loss of each element in PyTorch; logits and targets are float32 or float64."""
    # binary_cross_entropy_with_logits subtracts two large numbers, which loses small losses.
    loss = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    if gamma != 0:
        # 1 - p_t, from both sides of the sigmoid: 1 - sigmoid(x) would cancel.
        wrong = targets * torch.sigmoid(-logits) + (1 - targets) * torch.sigmoid(logits)
        if gamma < 1:  # keeps the derivative of the power finite
            wrong = wrong.clamp_min(torch.finfo(wrong.dtype).tiny)
        loss = wrong**gamma * loss
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss


def _widen(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _fake(inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: int) -> Tensor:
    if _REDUCTIONS[reduction] != "none":
        return inputs.new_empty((), dtype=torch.float32)
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


def _fake_backward(grad: Tensor, inputs: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    logits, targets, ctx.alpha, ctx.gamma, ctx.reduction = inputs
    ctx.save_for_backward(logits, targets)


def _backward(ctx: Any, grad: Tensor) -> tuple:
    logits, targets = ctx.saved_tensors
    if _REDUCTIONS[ctx.reduction] == "mean":
        grad = grad / logits.numel()
    grad_logits = torch.ops.maskformer_ext.sigmoid_focal_loss_backward(grad, logits, targets, ctx.alpha, ctx.gamma)
    return grad_logits, None, None, None, None


register(_OP, fake=_fake, backward=_backward, setup_context=_setup_context)
register(f"{_OP}_backward", fake=_fake_backward, backward=once_differentiable(_OP))
