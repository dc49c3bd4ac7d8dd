"""Whole models against the numbers of the original: every stage, losses, gradients, one optimizer step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_models import RECIPES, build, facts, images, sample, targets, values, weights
from torch import Tensor, nn
from typed import expect, present

from maskformer_ext.checkpoints import original_name
from maskformer_ext.checkpoints.models import Model
from maskformer_ext.config.load import load_config
from maskformer_ext.engine.optimizer import build_optimizer, clip_grad_norm
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.maskformer import MaskFormer
from maskformer_ext.modeling.position_encoding import sine_position_encoding
from maskformer_ext.ops.mask_dot import mask_dot
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.semantic_inference import semantic_scores

FEATURES, OUTPUTS = 1e-4, 5e-4  # of a tensor's standard deviation


@pytest.fixture(scope="module", params=list(RECIPES))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> Model:
    return build(name)


def _stages(model: Model, batch: Tensor) -> tuple[dict[str, Tensor], object]:
    """Run the model and collect its stages under the golden names."""
    found: dict[str, Tensor] = {}

    def keep(key):
        return lambda module, inputs, output: found.__setitem__(key, output)

    hooks = [model.backbone.register_forward_hook(keep("features"))]
    encoded = hasattr(model.pixel_decoder, "encoder")
    hooks.append(model.pixel_decoder.register_forward_hook(keep("pixel_decoder")))
    if hasattr(model, "transformer_decoder"):
        hooks.append(model.get_submodule("transformer_decoder").register_forward_hook(keep("decoder_hs")))
    with torch.no_grad():
        out = model(batch)
    for hook in hooks:
        hook.remove()
    for level, feature in enumerate(found.pop("features")):
        found[f"res{level + 2}"] = feature
    pixel_decoder = found.pop("pixel_decoder")
    found["mask_features"] = pixel_decoder[0]
    if encoded:
        found["transformer_encoder_features"] = pixel_decoder[1]
    return found, out


def _predictions(out) -> dict[str, Tensor]:
    if isinstance(getattr(out, "logits", None), Tensor):
        key = "pred_masks" if out.aux else "per_pixel_logits"
        return {key: out.logits} | {f"aux{i}/pred_masks": logits for i, logits in enumerate(out.aux)}
    masks = mask_dot(out.mask_embed, out.mask_features)
    found = {"pred_logits": out.class_logits[-1], "pred_masks": masks[-1]}
    for layer in range(len(masks) - 1):
        found[f"aux{layer}/pred_logits"] = out.class_logits[layer]
        found[f"aux{layer}/pred_masks"] = masks[layer]
    return found


@pytest.mark.parametrize("run_name", ["single", "batch2"])
def test_every_stage_equals_the_original(name: str, model: Model, run_name: str) -> None:
    run, stored = facts(name)["runs"][run_name], values(name)
    batch = images(name, run)
    # earlier layers of the baseline are formed in training only; without dropout the two modes agree
    stages, out = _stages(model.train(), batch)
    height, width = stages["res5"].shape[-2:]
    position = sine_position_encoding(height, width, 256).expand(len(batch), -1, -1, -1)
    stages |= {"backbone_input": batch, "position_encoding": position} | _predictions(out)
    expected = {key: tensor for key, tensor in run["tensors"].items() if not key.startswith("final")}
    for key in expected:
        assert list(stages[key].shape) == expected[key]["shape"], key
        limit = OUTPUTS if key == "decoder_hs" or "pred_" in key or "logits" in key else FEATURES
        got = sample(name, f"{run_name}/{key}", stages[key])
        error = np.abs(got - stored[f"{run_name}/{key}"]).max() / expected[key]["std"]
        assert error <= limit, f"{key}: {error:.2e} of its standard deviation"


@pytest.mark.parametrize("run_name", ["single", "batch2"])
def test_final_segmentation_equals_the_original(name: str, model: Model, run_name: str) -> None:
    run, stored = facts(name)["runs"][run_name], values(name)
    with torch.no_grad():
        out = model.eval()(images(name, run))
    for index, ((_, h, w), size) in enumerate(zip(run["images"], run["output_sizes"], strict=True)):
        if isinstance(model, MaskFormer):
            scores = semantic_scores(
                out.class_logits[-1, index],
                out.mask_logits()[index],
                size,
                input_size=run["padded"],
                crop=(h, w),
                resize=load_config(RECIPES[name]).inference.resize,
            )
        else:
            scores = F.interpolate(out.logits[index : index + 1], scale_factor=4, mode="bilinear")[..., :h, :w]
            scores = F.interpolate(scores, size=size, mode="bilinear")[0]
        key = f"{run_name}/final{index}/sem_seg"
        expected = run["tensors"][f"final{index}/sem_seg"]
        assert list(scores.shape) == expected["shape"]
        assert np.abs(sample(name, key, scores) - stored[key]).max() <= OUTPUTS * expected["std"]
        differing = (scores.argmax(0).numpy() != stored[f"{key}_argmax"]).mean()
        assert differing <= 1e-3


@pytest.mark.parametrize("run_name", ["single", "batch2"])
def test_panoptic_segments_equal_the_original(run_name: str) -> None:
    name = "coco_panoptic_r50"
    run, stored = facts(name)["runs"][run_name], values(name)
    with torch.no_grad():
        out = build(name).eval()(images(name, run))
    low = run["panoptic_low_thresholds"]
    for index, ((_, h, w), size) in enumerate(zip(run["images"], run["output_sizes"], strict=True)):
        segment_map, info = panoptic_inference(
            out.class_logits[-1, index],
            out.mask_logits()[index],
            size,
            thing_classes=range(80),
            object_mask_threshold=low["object_mask_threshold"],
            overlap_threshold=low["overlap_threshold"],
            input_size=run["padded"],
            crop=(h, w),
        )
        expected = low["segments_info"][index]
        assert [(s["id"], s["isthing"], s["category_id"]) for s in info] == [
            (s["id"], s["isthing"], s["category_id"]) for s in expected
        ]
        assert (segment_map.numpy() != stored[f"{run_name}/final{index}/panoptic_low_thresholds"]).mean() <= 1e-3


def test_training_step_equals_the_original(name: str) -> None:
    train, stored = facts(name)["train"], values(name)
    model = build(name).train()
    criterion = build_criterion(model, load_config(RECIPES[name]).criterion)
    batch, truth = images(name, train), targets(name)
    out = model(batch)
    total, losses, stats = criterion(out, truth)
    total.backward()

    assert set(losses) == set(train["losses_unweighted"])
    for key, expected in train["losses_unweighted"].items():
        assert losses[key].item() == pytest.approx(expected, rel=1e-4), key
    assert total.item() == pytest.approx(train["total_weighted"], rel=1e-4)
    assert {key: int(count) for key, count in stats.items()} == {"nonfinite_queries": 0, "invalid_targets": 0}
    if "matched" in train:
        _check_assignment(expect(MaskFormerCriterion, criterion).matcher(out, truth), train)
    _check_gradients(model, train, stored["train/grad_samples"], facts(name)["input_seed"])
    _check_optimizer_step(name, model, criterion, batch, truth)


def _check_assignment(query: Tensor, train: dict) -> None:
    layers = [f"aux{layer}" for layer in range(len(query) - 1)] + ["last"]
    for layer, key in enumerate(layers):
        for image, (queries, segments) in enumerate(train["matched"][key]):
            assert query[layer, image, segments].tolist() == queries


def _check_gradients(model: nn.Module, train: dict, samples: np.ndarray, seed: int) -> None:
    gradients = {original_name(key): p.grad for key, p in model.named_parameters()}
    assert set(gradients) == set(train["grad_l2"])
    for row, (key, norm) in zip(samples, train["grad_l2"].items(), strict=True):
        if key in train["grad_zero_up_to_rounding"]:
            continue
        gradient = present(gradients[key])
        assert gradient.norm().item() == pytest.approx(norm, rel=5e-3), key
        got = gradient.flatten().numpy()[weights.golden_indices(f"grad/{key}", gradient.numel(), seed, 8)]
        assert np.abs(got - row).max() <= 2e-2 * norm, key


def _check_optimizer_step(name: str, model: nn.Module, criterion: nn.Module, batch: Tensor, truth) -> None:
    step, train = facts(name)["one_optimizer_step"], facts(name)["train"]
    config = load_config(RECIPES[name]).optimizer
    optimizer = build_optimizer(model, config)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx(step["learning_rates"])
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    norm = clip_grad_norm(model.parameters(), config.clip_norm)
    assert norm.item() == pytest.approx(train["grad_norm_total"], rel=5e-3)
    optimizer.step()
    deltas = {original_name(key): (p - before[key]).norm().item() for key, p in model.named_parameters()}
    for key, expected in zip(train["grad_l2"], values(name)["train/step1_delta_l2"], strict=True):
        if key not in train["grad_zero_up_to_rounding"]:
            assert deltas[key] == pytest.approx(expected, rel=1e-2), key
    with torch.no_grad():
        total = criterion(model(batch), truth)[0].item()
    assert total == pytest.approx(step["total_after"], rel=1e-3)
