"""Images with a file of outlines each: what the formats have in common, from a name to a sample of any task."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from maskformer_ext.data.classes import ClassTable
from maskformer_ext.data.readers.outlines import Outline, sample_of_outlines, with_background
from maskformer_ext.data.tasks import TaskView
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError, printable
from maskformer_ext.media.images import read_image

_log = logging.getLogger(__name__)
_ONE_OR_MORE = re.compile(r"\[([^|\]]*)\|([^\]]*)\]")
_NAMED = 3

Outlined = tuple[str, Path, Path | None]
"""Name, image and file of outlines of a sample; None: the image has no object."""


class OutlinedFiles(Dataset):
    """Images with a file of outlines each; how a file is read is up to the subclass.

    Args:
        records: what there is.
        table: the classes of the files, all of them things.
        task: "instance", "panoptic" or "semantic".
        background: class of all other pixels where the task knows stuff; empty: they are void.
        name: what reports call the data set.
        problems: one sentence for each file that is left out.
        skip_errors: keep the problems in ``problems`` instead of raising the first.
        where: the folder, for the error where there is no image.

    Raises:
        UserError: if there are problems or no images. Reading an item raises it if a file is damaged.
    """

    info: DatasetInfo
    exif: bool = True  # turn images as their orientation says

    def __init__(
        self,
        records: Sequence[Outlined],
        table: ClassTable,
        *,
        task: str,
        background: str,
        name: str,
        problems: Sequence[str],
        skip_errors: bool,
        where: str,
    ) -> None:
        self.records, self.problems = list(records), [printable(problem) for problem in problems]
        if self.problems and not skip_errors:
            raise UserError(self.problems[0])
        if not self.records:
            raise UserError(f"{where}: {self.problems[0] if problems else 'there is no image with outlines.'}")
        self.classes = len(table.classes)
        whole, self.background = with_background(table, "" if task == "instance" else background)
        self.view = TaskView(name, whole, task)
        self.info = self.view.info

    def __len__(self) -> int:
        return len(self.records)

    def image_file(self, index: int) -> Path:
        """Return the file of an image."""
        return self.records[index][1]

    def __getitem__(self, index: int) -> Sample:
        name, path, file = self.records[index]
        image = self.read(path, file)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        outlines = [] if file is None else self.outlines(file, path, size)
        return self.sample(image, name, outlines, file or path)

    def read(self, image: Path, file: Path | None) -> Tensor:
        """Read an image, (3, H, W) uint8."""
        return read_image(image, exif=self.exif)

    def outlines(self, file: Path, image: Path, size: tuple[int, int]) -> list[Outline]:
        """Read the outlines of an image of a height and width."""
        raise NotImplementedError

    def sample(self, image: Tensor, name: str, outlines: Sequence[Outline], file: Path) -> Sample:
        """Draw the outlines of an image."""
        return sample_of_outlines(image, name, outlines, self.view, file, background=self.background)


def report_some(where: Path | str, what: str, found: Sequence[str]) -> None:
    """Log one line that counts and names what is left out or strange, unless there is nothing.

    Args:
        where: the folder or file.
        what: in words, with "{}" for how many, and "[image|images]" for one and for more.
        found: one short text each.
    """
    if not found:
        return
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    said = _ONE_OR_MORE.sub(r"\1" if len(found) == 1 else r"\2", what).format(len(found))
    _log.warning("%s", printable(f"{where}: {said} ({', '.join(found[:_NAMED])}{more})"))
