"""``config=folder``: which recipe, format and task a folder leads to, and a split drawn from names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_sets import squares, write_folder

from maskformer_ext.config import DataConfig
from maskformer_ext.config.load import load_config
from maskformer_ext.data import build_dataset
from maskformer_ext.data.catalog import CATALOG
from maskformer_ext.data.recognition import load_run_config, recognise
from maskformer_ext.data.splitting import is_validation, split_by_name
from maskformer_ext.errors import UserError


def _folder(root: Path, classes: str) -> Path:
    return write_folder(root, classes, lambda generator, split, number: squares(1, 2))


def test_a_semantic_folder_leads_to_its_recipe(tmp_path: Path) -> None:
    root = _folder(tmp_path / "my photos", "a\nb\nc\n")
    config, recognition = load_run_config("folder", [f"data.root={root}", "train.max_iters=7"])
    assert recognition is not None and recognition.name == "semantic_folder" and "3 classes" in recognition.said
    assert (config.data.name, config.data.task, config.train.max_iters) == ("semantic_folder", "semantic", 7)
    assert (config.name, config.output_dir) == ("my_photos", "output/my_photos")
    assert config.model == load_config("semantic_folder").model
    assert len(build_dataset(config.data, "train")) == 4


def test_a_folder_of_instances_leads_to_its_recipe(tmp_path: Path) -> None:
    root = _folder(tmp_path / "cells", '{"things": ["cell"], "stuff": ["glass"]}')
    config, recognition = load_run_config("folder", [f"data.root={root}"])
    assert recognition is not None and recognition.name == "instance_folder"
    assert (config.data.task, config.criterion) == ("instance", load_config("instance_folder").criterion)


def test_what_is_given_wins(tmp_path: Path) -> None:
    root = _folder(tmp_path / "cells", '{"things": ["cell"], "stuff": ["glass"]}')
    keys = [f"data.root={root}", "data.task=panoptic", "output_dir=here", "name=mine"]
    config, _ = load_run_config("folder", keys)
    assert (config.data.task, config.output_dir, config.name) == ("panoptic", "here", "mine")
    config, _ = load_run_config("folder", [f"data.root={root}", "data.name=instance_folder"])
    assert config.data.name == "instance_folder"


def test_other_recipes_are_read_as_ever() -> None:
    config, recognition = load_run_config("digits", ["seed=3"])
    assert recognition is None and config == load_config("digits", ["seed=3"])


def test_a_run_on_a_folder_names_its_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.name=folder stands for a format that is still to be recognised"):
        build_dataset(DataConfig(name="folder", root=str(tmp_path)), "train")
    with pytest.raises(UserError, match=r"config=folder needs data\.root=PATH"):
        load_run_config("folder", [])


def test_folders_that_nothing_fits_are_described(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing: set data\.root to the folder"):
        recognise(tmp_path / "none")
    with pytest.raises(UserError, match="is not laid out as any format that is known: it holds nothing"):
        recognise(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"it holds table.csv \(files: 1 .csv\). .*docs/data.md shows"):
        recognise(tmp_path)
    with pytest.raises(UserError, match=r"data.name=digits is no format of own data.*give one of"):
        recognise(tmp_path, "digits")


def test_every_format_of_own_data_can_be_recognised() -> None:
    own = {name for name, description in CATALOG.items() if description.own_classes}
    assert own == {name for name, description in CATALOG.items() if description.recognise is not None}


def test_a_split_by_name_never_changes() -> None:
    names = [f"day/{number:05d}" for number in range(2000)]
    val = split_by_name(names, "val", 0.1, "here")
    assert 150 < len(val) < 250 and val == [name for name in names if is_validation(name, 0.1)]
    assert sorted(val + split_by_name(names, "train", 0.1, "here")) == names
    assert set(val) < set(split_by_name(names, "val", 0.2, "here"))  # more validation images are more, not others
    assert [is_validation(name, 0.5) for name in ("a", "b", "c", "photo 1", "é")] == [False, True, True, False, True]
    with pytest.raises(UserError, match=r"here: none of its 1 images is for validation.*raise it, or add images"):
        split_by_name(["a"], "val", 0.1, "here")
    with pytest.raises(UserError, match="none of its 1 images is for training"):
        split_by_name(["b"], "train", 0.9, "here")


def test_values_of_the_share_are_checked() -> None:
    with pytest.raises(UserError, match=r"data.val_share must be at most 0.9, got 1.5"):
        load_config("semantic_folder", ["data.val_share=1.5"])
    assert np.isclose(load_config("semantic_folder").data.val_share, 0.1)
