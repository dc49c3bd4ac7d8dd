"""Ops on a GPU against the CPU's results; skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from op_checks import LARGEST_ERROR, error
from predictions import confident_predictions, with_broken_queries
from test_dice_loss import make as make_dice
from test_linear_sum_assignment import KINDS, make_cost
from test_mask_loss import SHAPES, make
from test_matched_mask_loss import IMAGE, SEGMENT, make_targets
from test_matching_cost import random_targets

from maskformer_ext.ops import (
    dice_loss,
    instance_inference,
    linear_sum_assignment,
    mask_dot,
    mask_loss,
    matched_mask_loss,
    matching_cost,
    matching_cost_from_embeddings,
    panoptic_inference,
    semantic_inference,
    semantic_scores,
)
from maskformer_ext.ops.pair_dot import pair_logits
from maskformer_ext.ops.support.library import native

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (100, 30), (300, 300)], ids=str)
def test_assignment(kind, shape):
    cost = torch.stack([torch.from_numpy(make_cost(kind, shape, seed)) for seed in range(8)])
    cost[3, 0] = torch.inf
    counts = torch.full((8,), shape[1])
    assert native("linear_sum_assignment", cost.float().cuda())
    assert torch.equal(linear_sum_assignment(cost.cuda(), counts.cuda()).cpu(), linear_sum_assignment(cost, counts))


@pytest.mark.parametrize("form", ["segment_map", "masks"])
@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matching_cost(form, ignore_void, dtype):
    targets = random_targets(2, [30, 7], 30, (256, 200), 9)
    targets = targets.to_masks() if form == "masks" else targets
    inputs = torch.randn(3, 2, 50, 10).to(dtype), 4 * torch.randn(3, 2, 50, 64, 50).to(dtype)
    expected = matching_cost(*inputs, targets, ignore_void=ignore_void)
    on_gpu = [x.cuda() for x in inputs]
    found = matching_cost(*on_gpu, targets.to("cuda"), ignore_void=ignore_void)
    assert error(found.cpu(), expected.double()) <= LARGEST_ERROR
    assert torch.equal(found, matching_cost(*on_gpu, targets.to("cuda"), ignore_void=ignore_void))


def _losses_and_gradient(losses, logits):
    x = logits.detach().clone().requires_grad_()
    focal, dice = losses(x)
    (gradient,) = torch.autograd.grad(20 * focal.sum() + dice.sum(), x)
    return focal.detach().cpu(), dice.detach().cpu(), gradient.cpu()


@pytest.mark.parametrize("target", ["bool", "float32", "between"])
@pytest.mark.parametrize("shape", [*SHAPES, (20, (128, 128), (512, 512))], ids=str)
def test_mask_loss(shape, target):
    logits, targets = make(shape, target)
    expected = _losses_and_gradient(lambda x: mask_loss(x, targets), logits)
    found = _losses_and_gradient(lambda x: mask_loss(x, targets.cuda()), logits.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs.double()) <= (LARGEST_ERROR if min(shape[1]) > 4 else 1e-5)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("form", ["segments", "bool", "float"])
def test_matched_mask_loss(form, ignore_void):
    targets, logits = make_targets(form), 3 * torch.randn(len(IMAGE), 20, 24)
    expected = _losses_and_gradient(
        lambda x: matched_mask_loss(x, targets, IMAGE, SEGMENT, ignore_void=ignore_void), logits
    )
    given = targets.to("cuda"), IMAGE.cuda(), SEGMENT.cuda()
    found = _losses_and_gradient(lambda x: matched_mask_loss(x, *given, ignore_void=ignore_void), logits.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert error(ours, theirs.double()) <= LARGEST_ERROR


@pytest.mark.parametrize("target", ["float", "bool", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 37, 501), (20, 256, 256), (2, 1)], ids=str)
def test_dice_loss(shape, target):
    logits, targets = make_dice(shape, target)
    results = []
    for x, t in ((logits.double(), targets.to(torch.float64)), (logits.cuda(), targets.cuda())):
        x.requires_grad_()
        loss = dice_loss(x, t)
        results.append((loss.detach().cpu(), torch.autograd.grad(loss.sum(), x)[0].cpu()))
    assert native("dice_loss", logits.cuda()) and native("dice_loss_backward", logits.cuda())
    for expected, found in zip(*results, strict=True):
        assert error(found, expected) <= LARGEST_ERROR


INFERENCE_SIZES = [
    {"size": (128, 192)},
    {"size": (97, 161), "input_size": (128, 192), "crop": (120, 181)},
    {"size": (20, 31)},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_instance_inference(sizes, dtype):
    class_logits, mask_logits = with_broken_queries(*confident_predictions(30, 7, (32, 48)))
    given = class_logits, mask_logits.to(dtype)
    expected = instance_inference(*given, **sizes, thing_classes=range(5))
    found = instance_inference(*(x.cuda() for x in given), **sizes, thing_classes=range(5))
    assert native("instance_masks", mask_logits.cuda())
    assert torch.equal(found.labels.cpu(), expected.labels)
    torch.testing.assert_close(found.scores.cpu(), expected.scores, rtol=1e-4, atol=1e-6)
    assert (found.masks.cpu() != expected.masks).float().mean() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("area", ["probability", "weighted"])
@pytest.mark.parametrize("resize", ["logits", "probabilities"])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_panoptic_inference(sizes, resize, area, dtype):
    class_logits, mask_logits = with_broken_queries(*confident_predictions(50, 7, (32, 48)))
    options = sizes | {"thing_classes": range(4), "overlap_threshold": 0.3, "resize": resize, "area": area}
    given = class_logits, mask_logits.to(dtype)
    expected, facts = panoptic_inference(*given, **options)
    found, found_facts = panoptic_inference(*(x.cuda() for x in given), **options)
    assert native("panoptic_inference", mask_logits.cuda())
    assert (found.cpu() != expected).float().mean() < 1e-4
    assert [(f["id"], f["category_id"]) for f in found_facts] == [(f["id"], f["category_id"]) for f in facts]


def test_panoptic_inference_never_waits():
    probability = torch.rand(30, 8, device="cuda").softmax(-1)
    mask_logits = torch.randn(30, 32, 48, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for modes in ((False, False), (True, True)):
            arguments = ([0, 1], 0.1, 0.2, 0.5, (64, 96), (60, 90), *modes)
            result = torch.ops.maskformer_ext.panoptic_inference(probability, mask_logits, (120, 180), *arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result[0].shape == (120, 180)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["none", "sigmoid", "binary"])
@pytest.mark.parametrize("channels", [256, 33])
def test_mask_dot(activation, dtype, channels, channels_last):
    mask_embed = (torch.randn(3, 2, 100, channels) / channels**0.5).to(dtype)
    mask_features = torch.randn(2, channels, 24, 31).to(dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    given = mask_embed.cuda(), mask_features.cuda().to(memory_format=memory_format)
    expected = mask_dot(mask_embed.double(), mask_features.double())
    if activation == "binary":
        found = mask_dot(*given, activation="binary").cpu()
        assert not (found != (expected > 0))[expected.abs() > 1e-4 * expected.abs().max()].any()
        return
    found = mask_dot(*given, activation=activation, out_dtype=torch.float32).cpu()
    assert error(found, expected.sigmoid() if activation == "sigmoid" else expected) <= LARGEST_ERROR


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[20, 0, 7], [0, 0], [150, 3]], ids=str)
def test_pair_logits(counts, dtype, channels_last):
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image = torch.cat([image, torch.full((5,), -1)])
    embed, features = torch.randn(len(image), 6, 64).to(dtype), torch.randn(len(counts), 64, 40, 44).to(dtype)
    grad = torch.randn(len(image), 6, 40, 44).to(dtype)

    def run(embed, features, image, grad):
        inputs = embed.detach().requires_grad_(), features.detach().requires_grad_()
        logits = pair_logits(*inputs, image, max(counts))
        return logits.detach(), *torch.autograd.grad(logits, inputs, grad)

    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    on_gpu = embed.cuda(), features.cuda().to(memory_format=memory_format), image.cuda(), grad.cuda()
    expected = run(embed.double(), features.double(), image, grad.double())
    assert native("pair_dot", embed.cuda())
    for ours, again, theirs in zip(run(*on_gpu), run(*on_gpu), expected, strict=True):
        assert error(ours.cpu(), theirs) <= (LARGEST_ERROR if dtype == torch.float32 else 4e-3)
        assert torch.equal(ours, again)


@pytest.mark.parametrize("form", ["segment_map", "masks"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matching_cost_from_embeddings(form, dtype):
    targets = random_targets(3, [30, 0, 7], 30, (256, 200), 9)
    targets = targets.to_masks() if form == "masks" else targets
    inputs = torch.randn(4, 3, 100, 10), torch.randn(4, 3, 100, 64), torch.randn(3, 64, 128, 100) / 4
    inputs = [x.to(dtype) for x in inputs]
    expected = matching_cost_from_embeddings(*(x.double() for x in inputs), targets)
    found = matching_cost_from_embeddings(*(x.cuda() for x in inputs), targets.to("cuda"))
    assert error(found.cpu(), expected) <= LARGEST_ERROR


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("resize", ["logits", "scores"])
@pytest.mark.parametrize("classes", [5, 150, 200])
@pytest.mark.parametrize("sizes", INFERENCE_SIZES, ids=str)
def test_semantic_inference(sizes, classes, resize, dtype):
    class_logits, mask_logits = with_broken_queries(*confident_predictions(100, classes, (32, 48)))
    given = class_logits, mask_logits.to(dtype)
    scores = semantic_scores(*(x.cuda() for x in given), **sizes, resize=resize)
    assert error(scores.cpu(), semantic_scores(*given, **sizes, resize=resize).double()) <= LARGEST_ERROR
    labels = semantic_inference(*(x.cuda() for x in given), **sizes, resize=resize)
    assert native("semantic_inference", mask_logits.cuda())
    margin = scores.amax(0) - scores.gather(0, labels[None])[0]
    assert margin.max() <= 2e-6 * scores.max()
    assert (labels.cpu() != semantic_inference(*given, **sizes, resize=resize)).float().mean() < 1e-4


def test_matching_and_losses_never_wait():
    targets = random_targets(2, [5, 3], 5, (64, 64), 6).with_pairs().to("cuda")
    class_logits = torch.randn(3, 2, 20, 7, device="cuda")
    mask_logits = torch.randn(3, 2, 20, 16, 16, device="cuda", requires_grad=True)
    image, segment = targets.pairs()
    torch.cuda.set_sync_debug_mode("error")
    try:
        query = linear_sum_assignment(matching_cost(class_logits, mask_logits, targets), targets.num_segments)
        matched = mask_logits[0][image.clamp(min=0), query[0][image.clamp(min=0), segment.clamp(min=0)].clamp(min=0)]
        focal, dice = matched_mask_loss(matched, targets, image, segment)
        (20 * focal.sum() + dice.sum()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert mask_logits.grad.isfinite().all()
