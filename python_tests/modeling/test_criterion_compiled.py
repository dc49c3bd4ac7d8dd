"""The criterion under torch.compile: one graph for all sizes, the same losses and gradients."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_config
from torch import Tensor
from torch._dynamo.utils import counters

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import MaskTargets, SegmentTargets

CLASSES = 7
# B, Q, C, (h, w), (H, W), segments: all different, since dynamo takes equal sizes for the same
SIZES = [
    (2, 10, 16, (13, 24), (50, 92), 5),
    (3, 12, 20, (17, 11), (71, 46), 9),
    (4, 31, 18, (33, 41), (128, 165), 70),
]


def _case(batch: int, queries: int, channels: int, size: tuple, target_size: tuple, segments: int, form: str):
    inputs = [
        torch.randn(*shape).requires_grad_()
        for shape in ((6, batch, queries, CLASSES + 1), (6, batch, queries, channels), (batch, channels, *size))
    ]
    segment_map = torch.randint(-1, segments, (batch, *target_size), dtype=torch.int32)
    labels = torch.randint(CLASSES, (batch, segments))
    targets = SegmentTargets(segment_map, labels, torch.full((batch,), segments))
    return inputs, (targets.to_masks() if form == "masks" else targets).with_pairs()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["segment map", "masks"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_one_graph_serves_all_sizes(backend: str, form: str) -> None:
    criterion = MaskFormerCriterion(CLASSES)

    def total(inputs: list[Tensor], targets: SegmentTargets | MaskTargets) -> Tensor:
        return criterion(MaskFormerOutput(*inputs), targets)[0]

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(total, fullgraph=True, dynamic=True, backend=backend)
    for size in SIZES:
        inputs, targets = _case(*size, form)
        expected, found = total(inputs, targets), compiled(inputs, targets)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        gradients = torch.autograd.grad(found, inputs)
        for ours, theirs in zip(gradients, torch.autograd.grad(expected, inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))
    assert counters["stats"]["unique_graphs"] == 1


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["segment map", "masks"])
@pytest.mark.parametrize("device", DEVICES)
def test_network_and_criterion_are_one_graph(device: str, form: str) -> None:
    """Batches of other contents and numbers of segments, padded to one size, need no second graph."""
    config = tiny_config(CLASSES, dropout=0.0, freeze_batch_norm=True)
    model, criterion = build_model(config).to(device).train(), MaskFormerCriterion(CLASSES)

    def total(images: Tensor, targets: SegmentTargets | MaskTargets) -> Tensor:
        return criterion(model(images), targets)[0]

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager" if device == "cpu" else "inductor")
    for segments in (3, 5):
        segment_map = torch.randint(-1, segments, (2, 64, 96), dtype=torch.int32)
        drawn = SegmentTargets(segment_map, torch.randint(CLASSES, (2, segments)), torch.full((2,), segments))
        targets = drawn.to_masks() if form == "masks" else drawn
        targets = targets.pad_to(max_segments=8, max_pairs=16).to(device)
        images = torch.randn(2, 3, 64, 96).to(device)
        gradients = []
        for function in (compiled, total):
            model.zero_grad()
            function(images, targets).backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        for ours, theirs in zip(*gradients, strict=True):
            # with a GPU, TF32 and other orders of summation in the network's own kernels
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0, atol=(1e-5 if device == "cpu" else 2e-2) * scale + 1e-7)
    assert counters["stats"]["unique_graphs"] == 1
