"""An accelerated processor is saved, copied and pickled as before."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from post_processing_cases import is_left

from maskformer_ext.integrations.transformers import accelerate, describe, restore
from maskformer_ext.integrations.transformers_models.parts import is_swapped

transformers = pytest.importorskip("transformers")

NAMES = ["MaskFormer", "Mask2Former", "Detr", "ConditionalDetr"]
if hasattr(transformers, "EomtImageProcessor") and not is_left(transformers.EomtImageProcessor()):
    NAMES.append("Eomt")


def processor(name: str):
    return getattr(transformers, f"{name}ImageProcessor")()


@pytest.mark.parametrize("name", NAMES)
def test_an_accelerated_processor_is_written_as_before(name, tmp_path) -> None:
    ours, theirs = processor(name), processor(name)
    accelerate(None, ours, verbose=False)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.to_json_string() == theirs.to_json_string() and repr(ours) == repr(theirs)
    for folder, one in (("ours", ours), ("theirs", theirs)):
        one.save_pretrained(tmp_path / folder)
    texts = [(tmp_path / folder / "preprocessor_config.json").read_text() for folder in ("ours", "theirs")]
    assert texts[0] == texts[1] and json.loads(texts[0])["image_processor_type"] == type(theirs).__name__
    loaded = type(theirs).from_pretrained(tmp_path / "ours")
    assert type(loaded) is type(theirs) and loaded.to_dict() == theirs.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_an_accelerated_processor_is_copied_and_pickled(name) -> None:
    ours = processor(name)
    accelerate(None, ours, verbose=False)
    for other in (copy.deepcopy(ours), copy.copy(ours), pickle.loads(pickle.dumps(ours))):
        assert is_swapped(other) and other.to_dict() == ours.to_dict()
        restore(None, other)
        assert type(other) is getattr(transformers, f"{name}ImageProcessor")
    assert is_swapped(ours)
    assert [str(found).split(" (")[0] for found in describe(None, ours)] == ["processor"]


def test_a_processor_of_images_inside_another_is_accelerated() -> None:
    class Both:
        def __init__(self) -> None:
            self.image_processor = processor("Mask2Former")

    outer = Both()
    accelerate(None, outer, verbose=False)
    assert is_swapped(outer.image_processor)
    restore(None, outer)
    assert not is_swapped(outer.image_processor)
