"""Semantic data sets whose label images hold values that a table maps to classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.readers.pairs import Pair, PairedImages
from maskformer_ext.data.targets import count_ids, ids_tensor, segments_from_groups
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.ops.targets import VOID

UNKNOWN = -2
"""What a value table holds for values that must not occur in a file."""


def value_table(ids: Sequence[int], *, void: Iterable[int], size: int = 256) -> np.ndarray:
    """Return the class of each value of a label image.

    Args:
        ids: the value of each class.
        void: values of pixels where nothing is known.
        size: one more than the largest value that a file can hold.

    Returns:
        (size,) int16: class id, VOID, or UNKNOWN for all other values.
    """
    table = np.full(size, UNKNOWN, np.int16)
    table[list(void)] = VOID
    table[list(ids)] = np.arange(len(ids))
    return table


class LabelImages(PairedImages):
    """Semantic segmentation from label images and a table of their values.

    Args:
        name: what reports call the data set.
        table: the classes.
        pairs: name, image and label image of each sample.
        class_of_value: as `value_table` returns it.
        ignore_label: value of void in semantic label maps.
        read_file: reads a label image in another format than those that `read_label` knows.
        problems: one sentence for each file that is left out.
        skip_errors: keep the problems in ``problems`` instead of raising the first.
        where: the folders, for the error where there is no pair.

    Raises:
        UserError: as `PairedImages`; reading an item also where a label has a value that is no class.
    """

    def __init__(
        self,
        name: str,
        table: ClassTable,
        pairs: list[Pair],
        class_of_value: np.ndarray,
        *,
        ignore_label: int = 255,
        read_file: Callable[[Path], np.ndarray] | None = None,
        problems: Sequence[str] = (),
        skip_errors: bool = False,
        where: str = "",
    ) -> None:
        self.info = DatasetInfo(name, table.classes, table.colors, (), ignore_label)
        self.class_of_value, self.read_file = class_of_value, read_file
        super().__init__(pairs, problems, skip_errors=skip_errors, where=where)

    def read_labels(self, path: Path) -> np.ndarray:
        """Read a label image alone, (H, W)."""
        return super().read_labels(path) if self.read_file is None else self.read_file(path)

    def segments(self, label: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
        ids = ids_tensor(label)
        areas = count_ids(ids, len(self.class_of_value))
        check_values(label, areas, self.class_of_value, path, self.info.name)
        class_of_value = torch.from_numpy(self.class_of_value).long()
        return segments_from_groups(ids, areas, class_of_value, torch.arange(self.info.num_classes))


def check_values(label: np.ndarray, areas: Tensor, table: np.ndarray, path: Path, name: str) -> None:
    """Check that every value of a label image is known.

    Args:
        label: (H, W) unsigned integers.
        areas: (N,) pixels of each value; N is at least the length of the table.
        table: as `value_table` returns it.
        path: the file, for the error.
        name: the data set, for the error.

    Raises:
        UserError: if a value is unknown; it names the first pixel that holds one.
    """
    occurs = areas.numpy() > 0
    if not occurs[len(table) :].any() and not occurs[: len(table)][table == UNKNOWN].any():
        return
    strange = (table[np.minimum(label, len(table) - 1)] == UNKNOWN) | (label >= len(table))
    y, x = np.argwhere(strange)[0]
    known = np.flatnonzero(table != UNKNOWN)
    raise UserError(
        f"{path} holds the value {label[y, x]} (row {y}, column {x}), which is no label of {name}: expected one of "
        f"{len(known)} values from {known[0]} to {known[-1]}."
    )
