"""The one list of ops. Tests, the ABI check, the benchmarks, the host stand-in and the documentation follow it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Op:
    """An op: one subject, one module, one folder of native code.

    Attributes:
        name: of `maskformer_ext/ops/<name>.py`, `csrc/<name>/`, `python_tests/ops/test_<name>.py`,
            `python_tests/ops/op_samples/<name>.py` and `benchmarks/bench_<name>.py`.
        native: the native ops that it registers, `torch.ops.maskformer_ext.<name>`.
        functions: what `maskformer_ext.ops` re-exports; by default the function of the op's name.
        cuda: whether the native ops have CUDA kernels.
        differentiable: whether gradients flow through it.
        fullgraph: whether `torch.compile(fullgraph=True)` takes it.
        values: whether shapes of results follow from values: such an op has no result for meta tensors.
        through_torch: whether the public op leaves a part of its work to torch, so that a torch may round otherwise.
        minor: whether it is measured last, since users call it least or it is a part of another op.
        kernels: the op whose kernels it runs, where it has none of its own for CPUs or for GPUs.
    """

    name: str
    native: tuple[str, ...]
    functions: tuple[str, ...] = ()
    cuda: bool = True
    differentiable: bool = False
    fullgraph: bool = True
    values: bool = False
    through_torch: bool = False
    minor: bool = False
    kernels: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "functions", self.functions or (self.name,))
        object.__setattr__(self, "kernels", self.kernels or self.name)


OPS = (
    Op("attention_mask", ("attention_mask",)),
    Op("box_matching_cost", ("box_matching_cost",)),
    Op("dice_loss", ("dice_loss", "dice_loss_backward"), differentiable=True, minor=True),
    Op("instance_inference", ("instance_masks",), values=True, minor=True),
    Op("linear_sum_assignment", ("linear_sum_assignment",)),
    Op("mask_dot", ("mask_dot",), differentiable=True, through_torch=True, minor=True),
    Op("mask_loss", ("mask_loss", "mask_loss_backward"), differentiable=True),
    Op("matched_mask_loss", ("matched_mask_loss",), differentiable=True, kernels="mask_loss"),
    Op("matching_cost", ("matching_cost",)),
    Op("matching_cost_from_embeddings", ("matching_cost_from_embeddings",), kernels="matching_cost"),
    Op("ms_deform_attn", ("ms_deform_attn", "ms_deform_attn_backward"), differentiable=True),
    Op(
        "pair_dot",
        ("pair_dot", "pair_dot_backward"),
        differentiable=True,
        through_torch=True,
        minor=True,
        kernels="mask_dot",
    ),
    Op("panoptic_inference", ("panoptic_inference",), values=True, fullgraph=False),
    Op("point_mask_loss", ("point_mask_loss", "point_mask_loss_backward"), differentiable=True),
    Op("point_matching_cost", ("point_matching_cost",)),
    Op("point_matching_cost_from_embeddings", ("point_matching_cost_from_embeddings",), kernels="point_matching_cost"),
    Op(
        "semantic_inference",
        ("semantic_inference", "semantic_scores"),
        functions=("semantic_inference", "semantic_scores"),
        through_torch=True,
    ),
    Op("sigmoid_focal_loss", ("sigmoid_focal_loss", "sigmoid_focal_loss_backward"), differentiable=True, minor=True),
    Op("uncertain_points", ("uncertain_points",)),
)

NUMPY_OPS = (Op("counting", (), functions=("joint_histogram", "pair_areas"), cuda=False),)
"""Ops of NumPy arrays, without torch: nothing is registered, and no test of tensors is theirs."""
