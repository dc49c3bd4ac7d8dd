"""Every native op is registered as torch wants it, and every op compiles, runs on threads and waits for no GPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from op_checks import at_thread_counts, native_only
from op_samples import Sample, all_samples, native_calls, samples, tensors_of

from maskformer_ext.ops import catalog
from maskformer_ext.ops.support import library

NATIVE = [(op, name) for op in catalog.OPS for name in op.native]


@native_only
@pytest.mark.parametrize(("op", "name"), NATIVE, ids=[name for _, name in NATIVE])
def test_opcheck(op: catalog.Op, name: str) -> None:
    for arguments in native_calls(op)[name]:
        if name in library._DIFFERENTIABLE and not name.endswith("_backward") and arguments[-1] is not False:
            arguments = (arguments[0].detach().clone().requires_grad_(), *arguments[1:])
        torch.library.opcheck(getattr(torch.ops.maskformer_ext, name).default, arguments)


def _compiled() -> list:
    return [pytest.param(sample, id=sample.name) for op in catalog.OPS if op.fullgraph for sample in samples(op)]


@native_only
@pytest.mark.parametrize("sample", _compiled())
def test_compiles_without_graph_breaks(sample: Sample) -> None:
    names = list(sample.floating)

    def function(*tensors: torch.Tensor) -> list[torch.Tensor]:
        return tensors_of(sample(**dict(zip(names, tensors, strict=True))))

    def run(call) -> list[torch.Tensor]:
        inputs = {name: x.clone().requires_grad_(name in sample.differentiable) for name, x in sample.floating.items()}
        out = call(*inputs.values())
        total = sum(x.float().square().sum() for x in out if x.requires_grad)
        wanted = [inputs[name] for name in sample.differentiable]
        gradients = torch.autograd.grad(total, wanted) if isinstance(total, torch.Tensor) else ()
        return [*(x.detach() for x in out), *gradients]

    torch._dynamo.reset()  # it gives up on a function that it has compiled for eight ops
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(run(compiled), run(function), strict=True):
        assert torch.equal(ours, theirs)


def _results(sample: Sample) -> tuple[torch.Tensor, ...]:
    return tuple(tensors_of(sample()))


@native_only
@pytest.mark.parametrize("op", catalog.OPS, ids=lambda op: op.name)
def test_threads_do_not_change_a_bit(op: catalog.Op) -> None:
    for sample in samples(op, large=True):
        at_thread_counts(partial(_results, sample))


@pytest.mark.gpu
@pytest.mark.parametrize("sample", all_samples(values=False))
def test_never_waits_for_a_gpu(sample: Sample) -> None:
    sample = sample.to(device="cuda")
    sample()  # what is made once, such as tables of classes, may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("op", "name"), NATIVE, ids=[name for _, name in NATIVE])
def test_native_ops_give_the_same_bits_twice(kernels, op: catalog.Op, name: str) -> None:
    if not op.cuda and kernels.kind != "cpu":
        pytest.skip("the op has no CUDA kernels")
    call = getattr(kernels.native, name)
    for arguments in native_calls(op)[name]:
        first, second = (tensors_of(call(*arguments)) for _ in range(2))
        for ours, theirs in zip(first, second, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
