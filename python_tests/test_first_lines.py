"""What a newcomer types first: segment a photo with a model of the hub, for which a folder on the disk stands here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import SMALL
from PIL import Image

from maskformer_ext import MaskFormer, build_model, ops
from maskformer_ext.__main__ import main
from maskformer_ext.checkpoints.files.safetensors_files import read_safetensors, write_safetensors
from maskformer_ext.inference import segment


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes it: nothing of this package is in the header of its weights."""
    torch.manual_seed(0)
    folder = build_model(SMALL).save_pretrained(tmp_path_factory.mktemp("hub") / "model", layout="hf")
    tensors, _ = read_safetensors(folder / "model.safetensors")
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_a_photo_is_segmented_by_one_command(hub: Path, photo: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "predictions"
    assert main(["predict", f"checkpoint={hub}", f"input={photo}", f"output={output}"]) == 0
    with Image.open(output / "overlays" / "photo.png") as overlay:
        assert min(overlay.size) >= 72
    assert f"the pictures are in {output}/overlays" in capsys.readouterr().out


def test_a_photo_is_segmented_in_three_lines(hub: Path, photo: Path) -> None:
    model = MaskFormer.from_pretrained(hub)
    assert model.recipe is not None and model.dataset_info is not None
    result = segment(model, photo, task="semantic", config=model.recipe.inference)
    assert tuple(result.class_map.shape) == (72, 96)


def test_an_op_works_alone() -> None:
    mask_logits = torch.randn(5, 32, 32, requires_grad=True)
    focal, dice = ops.mask_loss(mask_logits, torch.rand(5, 128, 128) > 0.5)
    (20 * focal + dice).sum().backward()
    assert mask_logits.grad is not None and mask_logits.grad.isfinite().all()
