"""Batch norms of a foreign network, folded into its convolutions while it only predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskformer_ext.modeling.products import Conv2d, conv2d

_TOLERANCE = 1e-3  # of the largest value: what rounding explains, and a wrong fold does not

_Run = Callable[[Tensor], Any]


class FoldedNetwork:
    """Run a network of plain features; where a batch norm follows a convolution, both are one convolution.

    The network itself stays as it is. A symbolic trace shows which norm reads which convolution alone; modules and
    weights are shared with it. Weights are scaled in each call, so nothing grows stale. The first call compares the
    result with the network's own. A network that cannot be traced, or has changed since, runs by itself.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._modules: list[nn.Module] = []
        self._run: _Run | None = None

    def __call__(self, images: Tensor) -> Any:
        """Return what the network returns."""
        if not self._may_fold(images):
            return self.network(images)
        modules = list(self.network.modules())
        if any(module._forward_hooks or module._forward_pre_hooks for module in modules):
            return self.network(images)
        if len(modules) != len(self._modules) or any(a is not b for a, b in zip(modules, self._modules, strict=True)):
            self._modules = modules
            return self._begin(images)
        return self.network(images) if self._run is None else self._run(images)

    def _may_fold(self, images: Tensor) -> bool:
        return (
            images.device.type == "cpu"
            and not torch.is_grad_enabled()
            and not self.network.training
            and not torch.compiler.is_compiling()
        )

    def _begin(self, images: Tensor) -> Any:
        """Trace the network, and return what later calls return for these images."""
        own = self.network(images)
        self._run = _traced(self.network)
        if self._run is None:
            return own
        found = self._run(images)
        if len(found) == len(own) and all(_close(*pair) for pair in zip(found, own, strict=True)):
            return found
        self._run = None
        return own


class _Tracer(torch.fx.Tracer):
    """A tracer that looks into no convolution and no norm, whoever wrote it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = (nn.Conv2d, nn.modules.batchnorm._BatchNorm)
        return isinstance(m, kinds) or super().is_leaf_module(m, module_qualified_name)


def _traced(network: nn.Module) -> _Run | None:
    """Return a program over the same modules with folded norms, or None where nothing can be folded."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever foreign code does with a symbol
        return None
    modules = dict(network.named_modules())
    pairs = 0
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d) or len(node.args) != 1:
            continue
        source: Any = node.args[0]
        if source.op != "call_module" or len(source.users) != 1 or type(modules[source.target]) is not Conv2d:
            continue
        with graph.inserting_before(source):
            conv, norm = graph.get_attr(source.target), graph.get_attr(node.target)
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_function(_convolve_and_normalize, (source.args[0], conv, norm)))
        graph.erase_node(node)
        graph.erase_node(source)
        pairs += 1
    return torch.fx.GraphModule(network, graph) if pairs else None


def _convolve_and_normalize(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return the normalised output, scaling whatever is less: weights or output."""
    outputs = x.numel() // (x.shape[1] * conv.stride[0] * conv.stride[1])
    mean, variance = norm.running_mean, norm.running_var
    if outputs <= conv.weight[0].numel() or mean is None or variance is None or norm.training:
        return norm(conv(x))
    scale = (variance + norm.eps).rsqrt_()
    if norm.affine:
        scale *= norm.weight
    shift = -mean * scale if norm.bias is None else torch.addcmul(norm.bias, mean, scale, value=-1)
    if conv.bias is not None:
        shift = torch.addcmul(shift, conv.bias, scale)
    x = conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), shift, conv)
    # timm's batch norm carries the activation that follows it
    for follower in (getattr(norm, "drop", None), getattr(norm, "act", None)):
        x = x if follower is None else follower(x)
    return x


def _close(found: Tensor, own: Tensor) -> bool:
    return found.shape == own.shape and bool((found - own).abs().max() <= _TOLERANCE * own.abs().max())
