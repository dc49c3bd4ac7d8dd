"""Which columns of a table hold images and labels, by their types as Hugging Face `datasets` describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskformer_ext.config import DataConfig
from maskformer_ext.errors import UserError, printable

IMAGES = ("image", "pixel_values", "img", "picture", "photo", "file")
LABELS = (
    *("label", "annotation", "mask", "segmentation_map", "labels", "annotations", "masks", "label_image"),
    *("segmentation", "segmentation_mask", "semantic_segmentation", "semantic", "gt", "target"),
)
OBJECTS = ("objects", "annotations", "annotation", "labels", "instances")
SEGMENTATIONS = ("segmentation", "segmentations", "polygons", "polygon", "mask", "masks", "rle")
CATEGORIES = ("category", "category_id", "categories", "label", "labels", "class", "class_id", "classes", "label_id")
"""Names of columns and of fields of objects, the likeliest first."""

LABEL_IMAGE, OUTLINES, MASKS = "label image", "outlines", "masks"
"""What labels are: one image of class numbers; objects with polygons or run lengths; objects with an image each."""


@dataclass(frozen=True)
class Columns:
    """Where a table has images and labels.

    Attributes:
        image: column of the images.
        label: column of the labels.
        kind: LABEL_IMAGE, OUTLINES or MASKS.
        segmentation: field of an object that outlines it; empty: the column itself is a list of masks.
        category: field of an object, or column, with its class; empty: there is one class.
        names: of the classes, as the table's types give them; None where they do not.
    """

    image: str
    label: str
    kind: str
    segmentation: str = ""
    category: str = ""
    names: tuple[str, ...] | None = None

    @property
    def used(self) -> list[str]:
        """The columns that are read."""
        beside = [self.category] if self.category and not self.segmentation else []
        return [self.image, self.label, *beside]


def choose_columns(features: Mapping[str, Any], config: DataConfig, where: str) -> Columns:
    """Return which columns hold images and labels.

    Args:
        features: type of each column, as `datasets` writes them in JSON.
        config: ``image_column`` and ``label_column`` come first.
        where: what errors call the table.

    Raises:
        UserError: if a column is missing, or labels are boxes or something else that outlines nothing.
    """
    listed = ", ".join(printable(name) for name in features)
    for key, name in (("image_column", config.image_column), ("label_column", config.label_column)):
        if name and name not in features:
            raise UserError(f"{where} has no column {printable(name)!r} (data.{key}): its columns are {listed}.")
    image = config.image_column or _first_image(features, config.label_column)
    if image is None:
        raise UserError(f"{where} has no column of images: its columns are {listed}; set data.image_column.")
    others = {name: kind for name, kind in features.items() if name != image}
    if config.label_column:
        others = {config.label_column: features[config.label_column], **others}
    chosen = [config.label_column] if config.label_column else _likely(others)
    boxes = None
    for name in chosen:
        kind = others[name]
        if _is_image(kind, name):
            return Columns(image, name, LABEL_IMAGE)
        if (inner := _inside(kind)) is None:
            continue
        if _is_image(inner, name):
            category = next((one for one in CATEGORIES if one in others and one != name), "")
            return Columns(image, name, MASKS, "", category, _class_names(others.get(category)))
        fields = _fields(kind)
        category = next((one for one in CATEGORIES if one in fields), "")
        segmentation = next((one for one in SEGMENTATIONS if one in fields and one != category), "")
        if segmentation:
            masks = _is_image(fields[segmentation], segmentation)
            names = _class_names(fields.get(category))
            return Columns(image, name, MASKS if masks else OUTLINES, segmentation, category, names)
        if "bbox" in fields or "bboxes" in fields:
            boxes = name
    if boxes is not None:
        raise UserError(
            f"{where}: the objects in its column {printable(boxes)!r} have boxes, but no masks: segmentation needs "
            "polygons, run lengths or label images."
        )
    asked = f"its column {printable(config.label_column)!r} holds none" if config.label_column else f"it has {listed}"
    raise UserError(
        f"{where} has no labels that are known: {asked}; data.label_column must name a column of label images, or of "
        "objects with a segmentation."
    )


def features_of_schema(schema: Any) -> dict[str, Any]:
    """Return the types of the columns of a table that `datasets` did not write, in its words.

    Args:
        schema: of Arrow.
    """
    import pyarrow as pa

    def of(kind: Any) -> Any:
        if pa.types.is_struct(kind):
            names = {field.name for field in kind}
            if names <= {"bytes", "path"} and "bytes" in names:
                return {"_type": "Image"}
            return {field.name: of(field.type) for field in kind}
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return {"_type": "List", "feature": of(kind.value_type)}
        binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        return {"_type": "Value", "dtype": "binary" if binary else str(kind)}

    return {field.name: of(field.type) for field in schema}


def _first_image(features: Mapping[str, Any], label: str) -> str | None:
    found = [name for name, kind in features.items() if name != label and _is_image(kind, name)]
    named = [name for name in IMAGES if name in found]
    return next(iter([*named, *(name for name in found if name not in LABELS)]), None)


def _likely(features: Mapping[str, Any]) -> list[str]:
    """Return the columns that may hold labels, the likeliest first; a lone second image is one, too."""
    named = [name for name in dict.fromkeys((*LABELS, *OBJECTS)) if name in features]
    images = [name for name, kind in features.items() if name not in named and _is_image(kind, name)]
    return [*named, *(images if len(images) == 1 else [])]


def _is_image(kind: Any, name: str) -> bool:
    """Return whether a type is that of image files; bytes are where the name says so."""
    if not isinstance(kind, Mapping):
        return False
    if kind.get("_type") == "Image":
        return True
    return kind.get("_type") == "Value" and kind.get("dtype") == "binary" and name in (*IMAGES, *LABELS)


def _inside(kind: Any) -> Any:
    """Return the type of the entries of a list, or the fields of objects; None for other types."""
    if isinstance(kind, list):
        return kind[0] if kind else None
    if isinstance(kind, Mapping) and kind.get("_type") in ("List", "LargeList", "Sequence"):
        return kind.get("feature")
    return kind if isinstance(kind, Mapping) and "_type" not in kind else None


def _fields(kind: Any) -> Mapping[str, Any]:
    """Return the types of the fields of one object, from a list of objects or an object of lists."""
    inner = _inside(kind)
    if not isinstance(inner, Mapping) or "_type" in inner:
        return {}
    lists = inner is kind
    return {name: _inside(of) if lists and _inside(of) is not None else of for name, of in inner.items()}


def _class_names(kind: Any) -> tuple[str, ...] | None:
    if _inside(kind) is not None:
        kind = _inside(kind)
    if isinstance(kind, Mapping) and kind.get("_type") == "ClassLabel" and kind.get("names"):
        return tuple(printable(name) for name in kind["names"])
    return None
