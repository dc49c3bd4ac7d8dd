"""What only the host stand-in can vary or count of the CUDA kernels: the order of blocks, and bank conflicts."""

from __future__ import annotations

import pytest
import stand_in
import torch
from op_samples import Sample, all_samples, tensors_of

from maskformer_ext.ops import catalog

pytestmark = pytest.mark.cuda_kernels

ON_GPUS = {name for op in catalog.OPS if op.cuda for name in op.functions}
# How many times the fewest wavefronts the lines of a kernel may take. What takes more has a reason here.
MOST_WAVEFRONTS = 2.0
KNOWN = {
    # Float32 tiles of any alignment: a lane copies four neighbours in four steps, so lanes lie four words apart.
    "host_cuda/mma.h:31": 4.0,
    # Once per block: eight lanes add what the warps found.
    "mask_loss/mask_loss.cu:176": 3.0,
    # Once per problem: the matrix is copied to an odd pitch, where neighbours may be of two rows.
    "linear_sum_assignment/block_search.cuh:77": 2.7,
}


@pytest.fixture(autouse=True)
def only_on_the_stand_in(kernels) -> None:
    if kernels.kind != "host_cuda":
        pytest.skip("of the stand-in only")


def run(sample: Sample) -> list[torch.Tensor]:
    """Return the results of a sample, and its gradients."""
    floating = {name: tensor.clone().requires_grad_(name in sample.wrt) for name, tensor in sample.floating.items()}
    results = tensors_of(sample.function(**floating, **sample.rest))
    wrt = [tensor for tensor in floating.values() if tensor.requires_grad]
    differentiable = [result.sum() for result in results if result.requires_grad]
    grads = torch.autograd.grad(differentiable, wrt, allow_unused=True) if differentiable and wrt else ()
    return [*(result.detach() for result in results), *(grad for grad in grads if grad is not None)]


@pytest.mark.parametrize("sample", all_samples())
def test_results_do_not_depend_on_the_order_of_blocks_and_threads(sample: Sample) -> None:
    if sample.function.__name__ not in ON_GPUS:
        pytest.skip("has no CUDA kernels")
    orders = []
    for seed in (1, 2, 3):
        with stand_in.configured(seed=seed):
            orders.append(run(sample))
    for other in orders[1:]:
        for one, two in zip(orders[0], other, strict=True):
            assert torch.equal(one.nan_to_num(1e30), two.nan_to_num(1e30))


def test_lanes_seldom_wait_for_a_bank() -> None:
    stand_in.banks()
    with stand_in.configured(banks=True):
        for parameters in all_samples():
            if parameters.values[0].function.__name__ in ON_GPUS:
                run(parameters.values[0])
    lines = stand_in.banks_by_line()
    for place, (accesses, times) in sorted(lines.items(), key=lambda item: -item[1][1]):
        print(f"{times:6.2f} times the fewest wavefronts, {accesses:8} accesses of a warp: {place}")
    assert len(lines) > 20
    too_many = {place: times for place, (_, times) in lines.items() if times > KNOWN.get(place, MOST_WAVEFRONTS)}
    assert not too_many
