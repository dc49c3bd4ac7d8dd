"""Accelerated models in what people do with models: precisions, wrappers, the trainer, pipelines, files."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from family_models import make_mask2former, make_maskformer
from torch import Tensor, nn
from transformers_steps import SIZE, make_labels

pytest.importorskip("transformers.loss.loss_rf_detr")
pytest.importorskip("transformers.models.deimv2")

import detection_models
import transformers

from maskformer_ext.integrations.transformers import accelerate, describe, restore

NAMES = ["MaskFormer", "Mask2Former", "DetrForSegmentation", "RfDetrForInstanceSegmentation"]


def _make(name: str) -> tuple[Any, dict[str, Any]]:
    """Return a model and what it is called with in training."""
    if name in detection_models.BUILDERS:
        model = detection_models.build(name)
        return model, {**detection_models.inputs(name), "labels": detection_models.labels(name)}
    model = make_maskformer() if name == "MaskFormer" else make_mask2former(layers=3)
    _, masks, labels = make_labels()
    pixels = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(4))
    return model, {"pixel_values": pixels, "mask_labels": masks, "class_labels": labels}


def _loss(model: Any, inputs: dict[str, Any]) -> Tensor:
    torch.manual_seed(3)
    loss = model(**inputs).loss.sum()
    if loss.requires_grad:
        loss.backward()
    return loss.detach()


def _assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_and_bfloat16_autocast(name: str) -> None:
    model, inputs = _make(name)
    ours = accelerate(copy.deepcopy(model), verbose=False)
    with torch.autocast("cpu", torch.bfloat16):
        _assert_near(_loss(ours, inputs), _loss(model, inputs), 0.02)
    with torch.no_grad():
        _assert_near(_loss(ours.eval(), inputs), _loss(model.eval(), inputs))


@pytest.mark.parametrize("name", ["MaskFormer", "Mask2Former", "RfDetrForInstanceSegmentation"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_trains_near_to_float32(name: str, dtype: torch.dtype) -> None:
    """transformers' own code of most of these models does not run."""

    def cast(value: Any) -> Any:
        if isinstance(value, list):
            return [cast(one) for one in value]
        if isinstance(value, dict):
            return {key: cast(one) for key, one in value.items()}
        return value.to(dtype) if value.is_floating_point() else value

    model, inputs = _make(name)
    expected = _loss(model, inputs)
    ours = accelerate(model.to(dtype), verbose=False)
    assert not any(one.left for one in describe(ours))
    _assert_near(_loss(ours, cast(inputs)).float(), expected, 0.02)


def test_gradient_checkpointing() -> None:
    model, inputs = _make("DetrForSegmentation")
    expected = _loss(model, inputs)
    accelerate(model, verbose=False).gradient_checkpointing_enable()
    _assert_near(_loss(model, inputs), expected)


def test_compiled_before_and_after() -> None:
    model, inputs = _make("RfDetrForInstanceSegmentation")
    model.eval()
    pixels = {"pixel_values": inputs["pixel_values"]}
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    with torch.no_grad():
        expected = model(**pixels)
        before = compiled(**pixels)
        accelerate(compiled, verbose=False)
        after = compiled(**pixels)
        ours = torch.compile(accelerate(model, verbose=False), backend="eager")(**pixels)
    assert not any(one.left for one in describe(compiled))
    for found in (before, after, ours):
        torch.testing.assert_close(found.pred_masks, expected.pred_masks, rtol=1e-4, atol=1e-4)
    restore(compiled)
    assert all(one.left for one in describe(compiled))


def test_wrapped_in_data_parallel() -> None:
    model, inputs = _make("Mask2Former")
    expected = _loss(model, inputs)
    wrapped = accelerate(nn.DataParallel(model), verbose=False)
    assert not any(one.left for one in describe(model))
    _assert_near(_loss(wrapped, inputs), expected)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("first", ["accelerate", "fully_shard"])
def test_sharded_by_fsdp(first: str, tmp_path) -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    model, inputs = _make("Mask2Former")
    expected = _loss(model, inputs)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/join", rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        steps = [lambda: accelerate(model, verbose=False), lambda: fsdp.fully_shard(model, mesh=mesh)]
        for step in steps if first == "accelerate" else steps[::-1]:
            step()
        assert not any(one.left for one in describe(model))
        _assert_near(_loss(model, inputs), expected)
    finally:
        torch.distributed.destroy_process_group()


class _Images(torch.utils.data.Dataset):
    """Three images with a segment map each, in the form that a model takes."""

    def __init__(self, name: str) -> None:
        self.boxes = name in detection_models.BUILDERS

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        owner = torch.randint(-1, 3, (8, 8), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
        image: dict[str, Any] = {"pixel_values": torch.randn(3, 64, 64, generator=generator), "file_name": str(index)}
        if not self.boxes:
            return {**image, "mask_labels": owner, "class_labels": torch.arange(3)}
        boxes = torch.rand(3, 4, generator=generator) * 0.3 + 0.2
        return {**image, "labels": {"masks": owner, "class_labels": torch.arange(3), "boxes": boxes}}


def _join(images: list[dict[str, Any]]) -> dict[str, Any]:
    assert "file_name" not in images[0]  # removed as unused: the model's signature is still read
    joined = {key: [image[key] for image in images] for key in images[0]}
    return {**joined, "pixel_values": torch.stack(joined["pixel_values"])}


@pytest.mark.parametrize("name", NAMES)
def test_trainer_trains_and_evaluates_on_segment_maps(name: str, tmp_path) -> None:
    pytest.importorskip("accelerate")
    model, _ = _make(name)
    accelerate(model, verbose=False)
    weights = [parameter.clone() for parameter in model.parameters()]
    options = transformers.TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=2,
        num_train_epochs=1,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        label_names=["labels"] if name in detection_models.BUILDERS else ["mask_labels", "class_labels"],
    )
    images = _Images(name)
    trainer = transformers.Trainer(model, options, train_dataset=images, eval_dataset=images, data_collator=_join)
    trainer.train()
    assert 0 < trainer.evaluate()["eval_loss"] < 1000
    assert any(not torch.equal(new, old) for new, old in zip(model.parameters(), weights, strict=True))
    assert not any(one.left for one in describe(trainer.model))


def test_in_a_pipeline() -> None:
    model = make_maskformer().eval()
    processor = transformers.MaskFormerImageProcessor(size={"height": 64, "width": 96})
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    pipe = transformers.pipeline("image-segmentation", model=model, image_processor=processor)
    expected = pipe(image, threshold=0.1, subtask="semantic")
    accelerate(pipe.model, pipe.image_processor, verbose=False)
    found = pipe(image, threshold=0.1, subtask="semantic")
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    for mine, other in zip(found, expected, strict=True):
        assert np.array_equal(np.asarray(mine["mask"]), np.asarray(other["mask"]))
