"""What `accelerate`, `restore` and `describe` say to arguments that are no model or no processor of the family."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from family_models import make_mask2former
from torch import nn

from maskformer_ext.errors import UserError
from maskformer_ext.integrations.transformers import accelerate, describe, restore

transformers = pytest.importorskip("transformers")

PROCESSOR = transformers.Mask2FormerImageProcessor


@pytest.fixture(scope="module")
def model() -> Any:
    return make_mask2former(layers=2)


def _wrong(model: Any) -> dict[str, tuple[tuple[Any, ...], str]]:
    """Return arguments, and what is said to them."""
    pipe = SimpleNamespace(model=model, image_processor=PROCESSOR())
    return {
        "list": (([model],), r"model must be .* got list\. Give what is in it, one call each\."),
        "class": ((type(model),), r"got the class Mask2FormerForUniversalSegmentation\. Give an instance"),
        "class of a processor": ((None, PROCESSOR), r"processor must be .* got the class Mask2FormerImageProcessor\."),
        "name": (("facebook/mask2former",), r"got str\. Load it first, with from_pretrained\."),
        "processor as model": ((PROCESSOR(),), r"got Mask2FormerImageProcessor\. It goes to .*accelerate\(None, proc"),
        "model as processor": ((None, model), r"got Mask2FormerForUniversal.*\. It goes to .* accelerate\(model\)\."),
        "pipeline": ((pipe,), r"got SimpleNamespace\. Give its model and its image processor\."),
        "state dict": ((model.state_dict(),), r"got OrderedDict\. Give what is in it"),
    }


@pytest.mark.parametrize("case", _wrong(nn.Module()))
def test_what_is_wrong_is_said_with_what_to_give(case: str, model: Any) -> None:
    arguments, said = _wrong(model)[case]
    with pytest.raises(UserError, match=r"^accelerate: " + r".*" + said):
        accelerate(*arguments)
    for call in (restore, describe):
        with pytest.raises(UserError, match=f"^{call.__name__}: "):
            call(*arguments)
    assert all(one.left for one in describe(model))


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="a model or a processor must be given"):
        accelerate(None)


def test_an_unknown_model_has_nothing_to_list_or_undo() -> None:
    model = nn.Linear(2, 2)
    assert describe(model) == [] and restore(model) is model


def test_nothing_is_replaced_where_an_argument_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="processor must be"):
        accelerate(model, {})
    assert all(one.left for one in describe(model))


def test_a_processor_that_makes_no_masks_may_come_with_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = make_mask2former(layers=2), transformers.ViTImageProcessor()
    accelerate(model, processor)
    assert f"accelerate leaves {type(processor).__name__} as it is, it makes no masks" in capsys.readouterr().err
    assert describe(None, processor) == [] and not any(one.left for one in describe(model))
    with pytest.raises(UserError, match="such as MaskFormerImageProcessor, got ViTImageProcessor"):
        accelerate(None, processor)


def test_a_processor_of_text_and_images_hands_on_to_its_image_processor() -> None:
    processor = SimpleNamespace(image_processor=PROCESSOR())
    accelerate(None, processor)
    assert [(one.where, one.name, one.left) for one in describe(None, processor)] == [
        ("processor", "Mask2FormerImageProcessor", "")
    ]
    restore(None, processor)
    assert type(processor.image_processor) is PROCESSOR


def test_parts_of_a_model_are_replaced_one_after_the_other() -> None:
    model = make_mask2former(layers=2)
    accelerate(model.criterion)
    assert {one.name for one in describe(model) if not one.left} == {"Mask2FormerLoss", "Mask2FormerHungarianMatcher"}
    accelerate(model)
    accelerate(model)
    assert not any(one.left for one in describe(model))
    restore(model.model.transformer_module)
    left = {one.name for one in describe(model) if one.left}
    assert left == {"Mask2FormerMaskedAttentionDecoder", "Mask2FormerMaskedAttentionDecoderLayer"}
    accelerate(nn.ModuleList([model, nn.Linear(2, 2)]))
    assert not any(one.left for one in describe(model))


def test_a_new_instance_of_an_accelerated_models_class_is_transformers_own(tmp_path) -> None:
    model = make_mask2former(layers=2)
    original = type(model)
    accelerate(model)
    model.save_pretrained(tmp_path)
    for twin in (type(model)(model.config), type(model).from_pretrained(tmp_path)):
        assert type(twin) is original and all(one.left for one in describe(twin))
    loaded = accelerate(type(model).from_pretrained(tmp_path))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
