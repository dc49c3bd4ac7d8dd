"""A training step and inference never make the host wait for a GPU; checked where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from no_waiting import NeverWaits, WouldWait, on_a_stand_in
from tiny import tiny_config
from torch import Tensor
from typed import expect

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import CriterionConfig, InferenceConfig, OptimizerConfig
from maskformer_ext.engine.optimizer import clip_grad_norm
from maskformer_ext.inference.network import run_network
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.results import SemanticResult
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import DenseOutput
from maskformer_ext.ops import (
    SegmentTargets,
    instance_inference,
    panoptic_inference,
    semantic_inference,
    semantic_scores,
)
from maskformer_ext.ops.pair_dot import _opaque, _opaque_backward
from maskformer_ext.ops.support import library, value_checks
from maskformer_ext.ops.support.constants import class_table, constant

pytestmark = pytest.mark.skipif(library.REFERENCE, reason="the references of some ops run on the host")

CLASSES, SIZE = 5, (64, 96)


def make_targets(counts: tuple[int, ...], *, masks: bool = False, padded: bool = False):
    """Segments of some images; the pairs were listed before they went to the device."""
    segment_map = torch.full((len(counts), *SIZE), -1, dtype=torch.int32)
    labels = torch.zeros(len(counts), max(counts), dtype=torch.int64)
    segments = SegmentTargets(segment_map, labels, torch.tensor(counts))
    targets = segments.to_masks() if masks else segments
    return (targets.pad_to(32, 64) if padded else targets.with_pairs()).to("meta")


def step(settings: dict, targets, criterion: CriterionConfig | None = None) -> NeverWaits:
    """Do a step up to the clipped gradients, watched."""
    model = build_model(tiny_config(CLASSES, **settings)).to("meta").train()
    loss = build_criterion(model, criterion or CriterionConfig()).to("meta")
    images = torch.empty(len(targets.labels), 3, *SIZE, device="meta")
    with on_a_stand_in() as watch:
        total, losses, _ = loss(model(images), targets)
        total.backward()
        clip_grad_norm(model.parameters(), OptimizerConfig().clip_norm)
        torch.stack([value.detach() for value in losses.values()])
    assert any(parameter.grad is not None for parameter in model.parameters())
    return watch


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"decoder_layers": 3, "masked_attention": True, "query_input": True, "mask_position": True},
        {"pixel_decoder": "transformer_encoder", "hidden_dim": 64},
        {"backbone": "swin_tiny", "drop_path": 0.3},
        {"architecture": "per_pixel_baseline"},
        {"architecture": "per_pixel_baseline_plus"},
    ],
    ids=str,
)
def test_a_training_step_never_waits(settings: dict) -> None:
    assert "linalg_vector_norm" in step(settings, make_targets((3, 0))).seen


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
@pytest.mark.parametrize("counts", [(3, 1), (0, 0), (90, 2)], ids=["few", "none", "crowded"])
def test_no_form_of_targets_waits(counts: tuple[int, ...], masks: bool, ignore_void: bool) -> None:
    targets = make_targets(counts, masks=masks)
    if masks and not ignore_void:
        targets = dataclasses.replace(targets, masks=targets.masks.float())
    step({}, targets, CriterionConfig(ignore_void=ignore_void))


@pytest.mark.parametrize("masks", [False, True], ids=["segment map", "masks"])
def test_padded_batches_run_the_same_operations_on_the_same_shapes(masks: bool) -> None:
    """What a CUDA graph recorded for one of them is right for the others."""
    traces = [
        step({}, make_targets(counts, masks=masks, padded=True)).calls for counts in [(3, 1), (0, 0), (20, 20), (1, 31)]
    ]
    assert all(trace == traces[0] for trace in traces)


@pytest.mark.parametrize("without", [(), ("mask_dot", "matching_cost_from_embeddings")], ids=["kernels", "references"])
@pytest.mark.parametrize("counts", [(3, 1), (0, 0), (90, 2)], ids=["few", "none", "crowded"])
def test_pair_dot_never_waits(counts: tuple[int, ...], without: tuple[str, ...]) -> None:
    image, _ = make_targets(counts).pairs()
    embed, features = (torch.empty(*shape, device="meta") for shape in ((len(image), 3, 8), (2, 8, 20)))
    with on_a_stand_in(without):
        logits = _opaque._init_fn(embed, features, image, max(counts))
        gradients = _opaque_backward._init_fn(logits, embed, features, image, max(counts))
    assert [x.shape for x in (logits, *gradients)] == [(len(image), 3, 20), embed.shape, features.shape]


def test_mask_logits_of_another_network_never_wait() -> None:
    shapes = (3, 2, 8, CLASSES + 1), (3, 2, 8, 16, 24)
    outputs = [torch.empty(*shape, device="meta", requires_grad=True) for shape in shapes]
    targets = make_targets((3, 1))
    with on_a_stand_in():
        MaskFormerCriterion(CLASSES)(DenseOutput(*outputs), targets)[0].backward()


def test_checks_of_values_wait_where_they_are_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(value_checks, "CHECKS", True)
    with pytest.raises(WouldWait, match="_local_scalar_dense"):
        step({}, make_targets((3, 1)))


@pytest.mark.parametrize("things", [None, (1, 3)])
def test_inference_never_waits_before_the_result_is_copied(things) -> None:
    queries, size = 8, (30, 50)
    class_logits = torch.empty(queries, CLASSES + 1, device="meta")
    mask_logits = torch.empty(queries, 16, 24, device="meta")
    options: dict[str, Any] = {"input_size": SIZE, "crop": (60, 90)}
    body = instance_inference.__globals__["_instance_inference"]._init_fn
    arguments = class_logits, mask_logits, size, 20, things, 0.5, *options.values(), "logits"
    class_table((1, 3), CLASSES, torch.device("meta"))  # copied to the device once
    with on_a_stand_in() as watch:
        assert semantic_inference(class_logits, mask_logits, size, **options).shape == size
        assert semantic_scores(class_logits, mask_logits, size, **options).shape == (CLASSES, *size)
        assert [len(part) for part in body(*arguments)] == [20] * 5
        with pytest.raises(WouldWait, match="copied between host and device"):
            panoptic_inference(class_logits, mask_logits, size, thing_classes=things or (), **options)
    assert "panoptic_inference" in watch.seen


def test_the_network_at_test_time_never_waits() -> None:
    model = build_model(tiny_config(CLASSES)).to("meta").eval()
    for values in (model.config.pixel_mean, model.config.pixel_std):
        constant(tuple(values), torch.float32, torch.device("meta"))  # copied to the device once
    pixels = torch.empty(2, 3, 50, 70, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), on_a_stand_in():
        outputs = run_network(model, pixels)
        reduce = Reducer(["semantic"], None, InferenceConfig())
        results = [reduce(output, (50, 70), Laps(torch.device("cpu")))["semantic"] for output in outputs]
    assert [expect(SemanticResult, result).class_map.shape for result in results] == [(50, 70)] * 2


def refused() -> list[tuple[str, Callable[[Tensor], object]]]:
    x = torch.ones(3)
    return [
        ("item", lambda t: t.sum().item()),
        ("bool", lambda t: bool((t > 0).any())),
        ("tolist", lambda t: t.tolist()),
        ("to the host", lambda t: t.cpu()),
        ("to the device", lambda t: x.to(t.device)),
        ("from Python", lambda t: torch.tensor([1.0], device=t.device)),
        ("a number from Python", lambda t: torch.tensor(1.0, device=t.device)),
        ("as_tensor", lambda t: torch.as_tensor([1.0], device=t.device)),
        ("asarray", lambda t: torch.asarray([1.0], device=t.device)),
        ("an array", lambda t: torch.as_tensor(x.numpy(), device=t.device)),
        ("new_tensor", lambda t: t.new_tensor(1.0)),
        ("new_tensor of a list", lambda t: t.new_tensor([1.0])),
        ("one_hot", lambda t: torch.nn.functional.one_hot(t.long(), -1)),
        ("set to a host tensor", lambda t: t.copy_(x)),
        ("index of the host", lambda t: t[torch.tensor([0, 2])]),
        ("index of a list", lambda t: t[[0, 2]]),
        ("index of an array", lambda t: t[None, x.long().numpy()]),
        ("assigned to a list of indices", lambda t: t.__setitem__([0, 2], 1.0)),
        ("mask", lambda t: t[t > 0]),
        ("assigned through a mask", lambda t: t.__setitem__(t > 0, t)),
        ("assigned through a mask, from the device", lambda t: t.__setitem__(t > 0, t[0])),
        ("assigned through a mask and an index", lambda t: t[None].__setitem__((t[:1] > 0, t.long()), 1.0)),
        ("nonzero", lambda t: t.nonzero()),
        ("where", lambda t: torch.where(t > 0)),
        ("masked_select", lambda t: t.masked_select(t > 0)),
        ("unique", lambda t: t.unique()),
        ("bincount", lambda t: t.long().bincount(minlength=3)),
        ("repeats", lambda t: t.repeat_interleave(t.long())),
        ("equal", lambda t: torch.equal(t, t)),
    ]


@pytest.mark.parametrize("act", [act for _, act in refused()], ids=[name for name, _ in refused()])
def test_the_watch_refuses_what_waits(act) -> None:
    with on_a_stand_in(), pytest.raises(WouldWait):
        act(torch.empty(3, device="meta"))


def test_the_watch_lets_pass_what_does_not_wait() -> None:
    t = torch.empty(3, 4, device="meta")
    with on_a_stand_in():
        t[0] = 2.0
        t[t > 0] = 1.0
        t[None, t[:, 0] > 0] = 1
        t[t[:, 0] > 0, 2] = True
        t[torch.arange(3, device="meta"), 1] = 0.0
        torch.where(t > 0, 0.1, 1.0).masked_fill(t > 0, 3.0) + torch.tensor(2.0)
        t.new_full((2,), 7.0).clamp(min=1).topk(1)
        assert torch.as_tensor(t) is t and t[..., (None, 0)[0]].shape == (3, 4, 1)
    with NeverWaits("cpu"), pytest.raises(WouldWait):
        torch.ones(1).item()
