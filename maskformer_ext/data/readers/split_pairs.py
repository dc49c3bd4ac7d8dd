"""Pairs of images and label images of a split: as the configuration says, or drawn where the data has no split."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import ClassTable, configured_classes, find_classes_file
from maskformer_ext.data.description import configured_folders, in_pattern
from maskformer_ext.data.layouts.label_values import derived_classes, look_at_values
from maskformer_ext.data.readers.pairs import Pair, pair_files
from maskformer_ext.data.splitting import split_by_name


def split_pairs(config: DataConfig, root: Path, split: str) -> tuple[list[Pair], list[str]]:
    """Return the pairs of a split, and one sentence for each file without partner.

    Where both splits lie in the same folders, ``data.val_share`` draws the validation images by their names. With a
    share of 0 both splits are all images.

    Args:
        config: which folders, and the share.
        root: the folder of the data.
        split: "train" or "val".

    Raises:
        UserError: as `pair_files` and `split_by_name`.
    """
    pairs, problems = all_pairs(config, root, split)
    if configured_folders(config, "train") != configured_folders(config, "val") or not config.val_share or not pairs:
        return pairs, problems
    chosen = set(split_by_name([name for name, *_ in pairs], split, config.val_share, str(root)))
    return [pair for pair in pairs if pair[0] in chosen], problems


def all_pairs(config: DataConfig, root: Path, split: str) -> tuple[list[Pair], list[str]]:
    """Return the pairs of the folders of a split, and one sentence for each file without partner."""
    images, labels = configured_folders(config, split)
    folder, ending = in_pattern(images)
    label_folder, label_ending = in_pattern(labels)
    return pair_files(root / folder, root / label_folder, image_ending=ending, label_ending=label_ending)


def folder_classes(config: DataConfig, root: Path, *, instances: bool = False) -> ClassTable:
    """Return the classes: of the classes file, or where there is none, named by the values of the training labels.

    Args:
        config: which file and folders.
        root: the folder of the data.
        instances: whether numbers are instance ids; there is one class of things then.

    Raises:
        UserError: as `configured_classes` and `derived_classes`.
    """
    if find_classes_file(config, root) is not None:
        return configured_classes(config, root)
    if instances:
        return one_thing()
    pairs, _ = all_pairs(config, root, "train")
    where = str(root / configured_folders(config, "train")[1])
    if not pairs:
        return configured_classes(config, root)
    return derived_classes(look_at_values([label for *_, label in pairs]), where)


def one_thing() -> ClassTable:
    """Return the classes of instance ids that no file names."""
    return ClassTable(("object", "background"), ((255, 196, 0), (32, 32, 64)), things=(0,), background=1)
