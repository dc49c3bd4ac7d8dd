"""A split of data that has none: each image's name decides, so that it never changes and no file has to keep it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction

from maskformer_ext.errors import UserError


def is_validation(name: str, share: float) -> bool:
    """Return whether an image belongs to the validation images.

    Other images do not matter, so that new ones move none of the old ones.

    Args:
        name: of the image, below the folder of images, without ending.
        share: of the images that validate, within 0 and 1.
    """
    return _draw(name) < share


def _draw(name: str) -> Fraction:
    """Return the number within 0 and 1 that a name draws."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return Fraction(int.from_bytes(digest[:8], "big"), 1 << 64)


def split_by_name(names: Iterable[str], split: str, share: float, where: str) -> list[str]:
    """Return the names that belong to a split, in the order in which they came.

    Of few images none may be drawn for a split. It then has the one whose name is drawn next.

    Args:
        names: of all images, below their folder, without ending.
        split: "train" or "val".
        share: of the images that validate; ``data.val_share``.
        where: what errors call the data.

    Raises:
        UserError: if there is no image in the split.
    """
    every = list(names)
    drawn = {name for name in every if is_validation(name, share)}
    if share and len(every) > 1:
        drawn = drawn or {min(every, key=_draw)}
        drawn = drawn if len(drawn) < len(every) else drawn - {max(every, key=_draw)}
    chosen = [name for name in every if (name in drawn) == (split == "val")]
    if not chosen:
        raise UserError(
            f"{where}: none of its {len(every)} images is for {'validation' if split == 'val' else 'training'}: it has "
            f"no split of its own, and data.val_share={share:g} draws one by the images' names; "
            f"{'raise' if split == 'val' else 'lower'} it, or add images."
        )
    return chosen
