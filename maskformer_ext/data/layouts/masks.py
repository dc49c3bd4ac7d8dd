"""How folders of images and label images are recognised: where both lie, the classes, and what the numbers mean."""

from __future__ import annotations

from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.data.classes import configured_classes, find_classes_file
from maskformer_ext.data.description import Recognition, in_pattern
from maskformer_ext.data.layouts.folders import Layout, find_layout, has_files
from maskformer_ext.data.layouts.label_values import (
    derived_classes,
    described_classes,
    look_at_values,
    tells_instances_apart,
)
from maskformer_ext.data.layouts.voc import find_voc
from maskformer_ext.data.layouts.words import count_classes, count_images
from maskformer_ext.data.listing import list_files
from maskformer_ext.errors import UserError
from maskformer_ext.media.extensions import EXTENSIONS, LABEL_EXTENSIONS

_JPEG = (".jpg", ".jpeg", ".jfif", ".webp")


def recognise_folders(root: Path, *, instances: bool) -> Recognition | None:
    """Return what a folder of images and label images holds, however its folders are called.

    A classes file decides whether instance ids are meant, by naming things. Without one the numbers of some label
    images do; where they could be both, the folder is of both formats.

    Args:
        root: the folder.
        instances: whether label images of instances are asked for.

    Raises:
        UserError: if the labels are JPEG files, or nothing says what their numbers mean.
    """
    if find_voc(root) is not None:
        return None
    layout = find_layout(root, LABEL_EXTENSIONS)
    if layout is None:
        _refuse_jpeg(root)
        return None
    labels = _files(root, layout.train[1], LABEL_EXTENSIONS)
    if find_classes_file(DataConfig(), root) is not None:
        table = configured_classes(DataConfig(), root)
        if bool(table.things and (table.id_divisor or len(table.things) < len(table.classes))) != instances:
            return None
        classes = count_classes(len(table.classes))
    else:
        values = look_at_values(labels)
        told_apart = tells_instances_apart(values)
        if told_apart is not None and told_apart != instances:
            return None
        classes = (
            "one class of instances, as no classes file is there"
            if instances
            else described_classes(derived_classes(values, str(root / layout.train[1])))
        )
    kind = "one image of instance ids each" if instances else "one label image each"
    name, task = ("instance_folder", "instance") if instances else ("semantic_folder", "semantic")
    return Recognition(name, task, f"images with {kind}, {_counts(root, layout)}, {classes}", layout.keys)


def _counts(root: Path, layout: Layout) -> str:
    """Return in words how many images each split has, and where they lie if that is not as usual."""
    train = len(_files(root, layout.train[1], LABEL_EXTENSIONS))
    if layout.train == layout.val:
        return count_images(train, None)
    val = len(_files(root, layout.val[1], LABEL_EXTENSIONS))
    where = f" ({layout.val[0]})" if layout.keys else ""
    return f"{count_images(train, val)}{where}"


def _files(root: Path, pattern: str, extensions: tuple[str, ...]) -> list[Path]:
    folder, ending = in_pattern(pattern)
    return list(list_files(root / folder, extensions, ending=ending).files.values())


def _refuse_jpeg(root: Path) -> None:
    """Raise where folders of labels hold JPEG files only."""
    layout = find_layout(root, _JPEG)
    if layout is None:
        return
    folder, _ = in_pattern(layout.train[1])
    if folder != in_pattern(layout.train[0])[0] and not has_files(root / folder, LABEL_EXTENSIONS):
        found = next(path for path in _files(root, folder, EXTENSIONS))
        raise UserError(
            f"{root / folder} holds masks such as {found.name}, a format that changes the numbers of a mask: save the "
            "masks as PNG."
        )
