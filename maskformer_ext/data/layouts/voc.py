"""Where masks in Pascal VOC's layout lie, which CVAT exports too, and what their lists say of the splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskformer_ext.data.listing import composed
from maskformer_ext.data.split_names import TRAIN, VALIDATING
from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_text

CLASSES, OBJECTS, IMAGES = "SegmentationClass", "SegmentationObject", ("JPEGImages", "Images", "images")
_INSIDE = ("", "VOCdevkit/VOC2012", "VOC2012", "VOCdevkit/VOC2007", "VOC2007")


@dataclass(frozen=True)
class VocLayout:
    """A folder in VOC's layout.

    Attributes:
        root: holds the folders of masks and lists.
        images: the folder of images.
        lists: the list files by their names in small letters without ending.
    """

    root: Path
    images: Path
    lists: dict[str, Path]

    @property
    def classes(self) -> Path:
        """The folder of masks of classes."""
        return self.root / CLASSES

    @property
    def objects(self) -> Path | None:
        """The folder of masks of instances; None where there is none."""
        return self.root / OBJECTS if (self.root / OBJECTS).is_dir() else None

    def list_of(self, split: str) -> Path | None:
        """Return the list of a split; None where the lists tell no two splits apart."""
        found = [
            next((self.lists[name] for name in names if name in self.lists), None) for names in (TRAIN, VALIDATING)
        ]
        if None in found:
            return None
        return found[0] if split == "train" else found[1]

    def whole_list(self) -> Path | None:
        """Return the list of all images; None where there is none."""
        if "trainval" in self.lists:
            return self.lists["trainval"]
        return next(iter(self.lists.values()), None)


def find_voc(root: Path) -> VocLayout | None:
    """Return where the masks lie; None where a folder is laid out otherwise."""
    for inside in _INSIDE:
        folder = root / inside
        if not (folder / CLASSES).is_dir():
            continue
        images = next((folder / name for name in IMAGES if (folder / name).is_dir()), None)
        lists = folder / "ImageSets" / "Segmentation"
        marked = (folder / IMAGES[0]).is_dir() or (folder / "ImageSets").is_dir() or (folder / "labelmap.txt").is_file()
        if not marked:
            continue
        if images is None:
            raise UserError(
                f"{folder / CLASSES} holds masks, but the folder {folder / IMAGES[0]} of their images is missing."
            )
        files = sorted(lists.glob("*.txt")) if lists.is_dir() else []
        return VocLayout(folder, images, {path.stem.lower(): path for path in files})
    return None


def read_list(path: Path) -> list[tuple[int, str]]:
    """Return line and name of each image of a list, without endings.

    Raises:
        UserError: if the file cannot be read, is empty, or names an image twice.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path, "a list of images").splitlines(), start=1):
        name = composed(line.strip().strip('"').replace("\\", "/"))
        if not name:
            continue
        if name in names:
            raise UserError(f"{path}, line {number}: names {printable(name)} again, after line {names[name]}.")
        names[name] = number
    if not names:
        raise UserError(f"{path} names no image: write one name per line, without ending.")
    return [(number, name) for name, number in names.items()]
