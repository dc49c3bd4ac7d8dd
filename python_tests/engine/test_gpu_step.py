"""Training on a GPU without waiting: no synchronisation, CUDA graphs, streams, devices. Skipped where there is none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch import Tensor
from typed import expect, present

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import OptimizerConfig
from maskformer_ext.engine.optimizer import build_optimizer, clip_grad_norm
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops import (
    MaskTargets,
    SegmentTargets,
    linear_sum_assignment,
    mask_dot,
    mask_loss,
    matched_mask_loss,
    matching_cost,
    sigmoid_focal_loss,
)
from maskformer_ext.ops.support.batch_targets import BatchTargets
from maskformer_ext.ops.support.library import native

pytestmark = pytest.mark.gpu

CLASSES, LAYERS, QUERIES, CHANNELS = 7, 3, 20, 16
PREDICTION, SIZE = (24, 32), (96, 128)
DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def make_segments(counts: tuple[int, ...], seed: int = 0) -> SegmentTargets:
    """Segments of some images, on the host."""
    generator = torch.Generator().manual_seed(seed)
    cells = [torch.randint(-1, count, (12, 16), generator=generator, dtype=torch.int32) for count in counts]
    segment_map = torch.stack(cells).repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels = torch.randint(CLASSES, (len(counts), max(counts)), generator=generator)
    return SegmentTargets(segment_map, labels, torch.tensor(counts)).with_pairs()


def make_targets(counts: tuple[int, ...], seed: int = 0, *, masks: bool = False) -> SegmentTargets | MaskTargets:
    """The same in either form."""
    targets = make_segments(counts, seed)
    return targets.to_masks().with_pairs() if masks else targets


def make_output(batch: int, seed: int = 0, device: str = "cuda") -> list[Tensor]:
    """Class logits, mask embeddings and mask features, leaves of the graph."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (LAYERS, batch, QUERIES, CLASSES + 1),
        (LAYERS, batch, QUERIES, CHANNELS),
        (batch, CHANNELS, *PREDICTION),
    ]
    return [torch.randn(*shape, generator=generator).to(device).requires_grad_() for shape in shapes]


@contextlib.contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raise where the host would wait."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def assert_same(found, expected) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * (1 + float(theirs.abs().max())))


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
@pytest.mark.parametrize("counts", [(5, 3), (0, 0), (300, 2)], ids=["few", "none", "crowded"])
def test_matching_losses_and_backward_never_wait(counts: tuple[int, ...], masks: bool, ignore_void: bool) -> None:
    targets, inputs = make_targets(counts, masks=masks).to("cuda"), make_output(len(counts))
    criterion = MaskFormerCriterion(CLASSES, ignore_void=ignore_void)
    with no_synchronisation():
        total, losses, stats = criterion(MaskFormerOutput(*inputs), targets)
        gradients = torch.autograd.grad(total, inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    on_host = make_output(len(counts), device="cpu")
    expected, _, _ = criterion(MaskFormerOutput(*on_host), make_targets(counts, masks=masks))
    torch.testing.assert_close(total.cpu(), expected, rtol=1e-3, atol=1e-3)  # the product of embeddings may use TF32
    assert int(stats["invalid_targets"]) == 0 and len(losses) == 3 * LAYERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_training_step_never_waits(dtype: torch.dtype) -> None:
    model, criterion = build_model(tiny_config(CLASSES)).cuda().train(), MaskFormerCriterion(CLASSES).cuda()
    optimizer = build_optimizer(model, OptimizerConfig())
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10 if dtype == torch.float16 else 1.0)
    parameters = list(model.parameters())

    def step(images: Tensor, targets: SegmentTargets | MaskTargets) -> Tensor:
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            total, losses, _ = criterion(model(images), targets, targets.num_segments.sum().clamp(min=1))
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        norm = clip_grad_norm(parameters, 0.01)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack([norm, *(loss.detach() for loss in losses.values())])

    batches = [
        (torch.randn(2, 3, *SIZE).pin_memory(), make_targets((4, count), count).pin_memory()) for count in (1, 3, 9)
    ]
    step(batches[0][0].cuda(), batches[0][1].to("cuda"))  # libraries set themselves up
    before = [parameter.detach().clone() for parameter in parameters]
    with no_synchronisation():
        values = [step(x.to("cuda", non_blocking=True), t.to("cuda", non_blocking=True)) for x, t in batches]
    assert all(
        value[1:].isfinite().all() for value in values
    )  # in fp16 a gradient may overflow, and the step is skipped
    assert dtype == torch.float16 or any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))


@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
def test_the_criterion_in_one_graph_runs_on_new_targets(masks: bool) -> None:
    criterion = MaskFormerCriterion(CLASSES)

    def padded(counts: tuple[int, ...], seed: int) -> SegmentTargets | MaskTargets:
        return make_targets(counts, seed, masks=masks).pad_to(max_segments=30, max_pairs=64)

    inputs, targets = make_output(2), padded((5, 3), 0).to("cuda")
    num_masks = torch.full((), 8.0, device="cuda")

    def run() -> list[Tensor]:
        total, losses, stats = criterion(MaskFormerOutput(*inputs), targets, num_masks)
        return [total.detach(), *losses.values(), *stats.values(), *torch.autograd.grad(total, inputs)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = run()
    for seed, counts in enumerate([(5, 3), (0, 1), (30, 12), (0, 0), (20, 30)], start=1):
        new = padded(counts, seed)
        with torch.no_grad():
            for tensor, value in zip(inputs, make_output(2, seed), strict=True):
                tensor.copy_(value)
        expect(BatchTargets, targets).copy_(expect(BatchTargets, new))
        num_masks.fill_(max(1, sum(counts)))
        graph.replay()
        found = [tensor.clone() for tensor in recorded]
        eager, _, _ = criterion(MaskFormerOutput(*inputs), new.to("cuda"), num_masks)
        assert_same(found[:1] + found[-3:], [eager.detach(), *torch.autograd.grad(eager, inputs)])


def test_the_recorded_step_of_the_documentation_equals_eager_steps() -> None:
    code = re.search(
        r"run by python_tests/engine/test_gpu_step\.py -->\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    names: dict[str, Callable] = {"torch": torch}  # type: ignore[dict-item]
    exec(present(code).group(1), names)
    # equal results need equal random numbers and statistics
    config = tiny_config(CLASSES, dropout=0.0, freeze_batch_norm=True)
    model, criterion = build_model(config).cuda().train(), MaskFormerCriterion(CLASSES).cuda()
    batches = [
        (torch.randn(2, 3, *SIZE), make_targets((count, 4), count).pad_to(12, 64).pin_memory()) for count in (2, 9, 5)
    ]
    step = names["record_step"](model, criterion, *batches[0])
    for images, targets in batches:
        num_masks = targets.num_segments.sum().clamp(min=1)
        total, losses, _ = step(images, targets, num_masks.pin_memory())
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        found = [total, *losses.values(), *(parameter.grad for parameter in trained)]
        found = [tensor.detach().clone() for tensor in found]
        eager, parts, _ = criterion(model(images.cuda()), targets.to("cuda"), num_masks.cuda())
        expected = [eager, *parts.values(), *torch.autograd.grad(eager, trained)]
        for ours, theirs in zip(found, expected, strict=True):  # cuDNN may choose other algorithms
            torch.testing.assert_close(
                ours, theirs.detach(), rtol=1e-3, atol=1e-2 * float(theirs.detach().abs().max()) + 1e-6
            )


def ops_of(seed: int, device: str) -> list[Callable[[], list[Tensor]]]:
    """Calls of every op that has a CUDA kernel, on inputs of their own, with gradients where there are any."""
    classes, embed, features = make_output(2, seed, device)
    targets = make_segments((6, 4), seed).to(device)
    logits = mask_dot(embed, features).detach().requires_grad_()
    image, segment = targets.pairs()
    rows = torch.arange(len(image), device=device) % QUERIES
    masks = targets.to_masks().masks[0]

    def losses(*parts: Tensor) -> list[Tensor]:
        total = sum((part.sum() for part in parts), torch.zeros((), device=device))
        return [*(part.detach() for part in parts), *torch.autograd.grad(total, logits)]

    def pairs() -> list[Tensor]:
        return losses(*matched_mask_loss(logits[0, 0][rows], targets, image, segment))

    def assignment() -> list[Tensor]:
        return [linear_sum_assignment(matching_cost(classes, logits, targets), targets.num_segments)]

    def criterion() -> list[Tensor]:
        total, _, _ = MaskFormerCriterion(CLASSES)(MaskFormerOutput(classes, embed, features), targets)
        return [total.detach(), *torch.autograd.grad(total, [classes, embed, features])]

    return [
        lambda: [mask_dot(embed, features, activation="sigmoid").detach()],
        lambda: [matching_cost(classes, logits, targets)],
        lambda: losses(*mask_loss(logits[1, 0, : len(masks)], masks)),
        lambda: losses(sigmoid_focal_loss(logits, (logits.detach() > 1).to(logits.dtype))),
        pairs,
        assignment,
        criterion,
    ]


def test_two_streams_at_once_give_the_results_of_one() -> None:
    calls = [ops_of(seed, "cuda") for seed in (1, 2)]
    expected = [[call() for call in own] for own in calls]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in calls]
    for _ in range(5):
        found: list[list[list[Tensor]]] = [[], []]
        for pair in zip(*calls, strict=True):  # each op on both streams, before either has ended
            for stream, call, results in zip(streams, pair, found, strict=True):
                with torch.cuda.stream(stream):
                    results.append(call())
        torch.cuda.synchronize()
        for ours, theirs in zip(found, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_the_current_one() -> None:
    with torch.cuda.device(0):
        found = [call() for call in ops_of(1, "cuda:1")]
        assert torch.cuda.current_device() == 0
        torch.cuda.synchronize(1)
        expected = [call() for call in ops_of(1, "cuda:0")]
    for ours, theirs in zip(found, expected, strict=True):
        assert all(tensor.device.index == 1 for tensor in ours)
        assert_same([tensor.to("cuda:0") for tensor in ours], theirs)


def test_the_kernels_are_in_use() -> None:
    for op in ("matching_cost", "matched_mask_loss", "mask_loss", "linear_sum_assignment", "sigmoid_focal_loss"):
        assert native(op, torch.zeros(1, device="cuda")), op
