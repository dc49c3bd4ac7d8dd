"""Where a data set lies, and whether anything is there, found without reading a file and without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.config import DataConfig
from maskformer_ext.config.values import CHOICES, nearest_hint
from maskformer_ext.data.catalog import CATALOG, FOLDER, canonical_name
from maskformer_ext.data.description import Description, Distribution
from maskformer_ext.errors import UserError

_OTHER_SPLIT = {"train": ("val", "test"), "val": ("train",)}


def check_location(config: DataConfig, splits: Sequence[str]) -> None:
    """Check that a data set and its folders are there, before anything is imported to read them.

    Args:
        config: which data set, and where.
        splits: "train", "val" or both.

    Raises:
        UserError: for a data set or task that does not exist, and for the first folder that is missing.
    """
    name = check_name(config)
    description = CATALOG[name]
    if description.generated:
        return
    root = find_root(config)
    if description.distribution is not None:
        if missing := missing_paths(description.distribution, source_root(description, root), splits):
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            command = f"maskformer-ext prepare {name} {root}"
            raise UserError(f"{missing[0]}{more} `{command}` says what belongs where.")
        return
    for split in splits:
        for folder in description.split_folders(config, split) if description.split_folders else ():
            if not (root / folder).is_dir():
                raise UserError(
                    f"the folder {root / folder} is missing: check data.root and the paths below it in the "
                    "configuration."
                )


def check_name(config: DataConfig) -> str:
    """Return the name under which a data set is known.

    Raises:
        UserError: if the name, the task or ``on_error`` is none that exists.
    """
    name = canonical_name(config.name)
    if name == FOLDER:
        raise UserError(
            f"data.name={FOLDER} stands for a format that is still to be recognised: `train` and `prepare` do so for "
            f"config={FOLDER}, and load_run_config of maskformer_ext.data.recognition does in Python."
        )
    for key, value, allowed in (
        ("name", name, tuple(CATALOG)),
        ("task", config.task, CATALOG[name].tasks if name in CATALOG else ()),
        ("on_error", config.on_error, CHOICES["data.on_error"]),
    ):
        if value not in allowed:
            of = f" for {name}" if key == "task" else ""
            raise UserError(
                f"data.{key} must be {' or '.join(allowed)}{of}, got {value!r}{nearest_hint(value, allowed)}."
            )
    if config.max_pixels < 0:
        raise UserError(
            f"data.max_pixels must be a number of pixels, or 0 for the usual limit, got {config.max_pixels}."
        )
    return name


def find_root(config: DataConfig) -> Path:
    """Return the folder of a data set: ``data.root``, or its folder below ``MASKFORMER_EXT_DATA``.

    Data that needs no such folder is where its description says.

    Raises:
        UserError: if neither is set, or the folder is missing.
    """
    name = canonical_name(config.name)
    folder = CATALOG[name].folder if name in CATALOG else ""
    locate = CATALOG[name].locate if name in CATALOG else None
    if locate is not None and (located := locate(config)) is not None:
        return located
    if config.root:
        root = Path(config.root).expanduser()
    elif folder and os.environ.get("MASKFORMER_EXT_DATA"):
        root = Path(os.environ["MASKFORMER_EXT_DATA"]) / folder
    else:
        raise UserError(
            f"data.root is not set: give the folder of {name}"
            + (" (or of all data sets in MASKFORMER_EXT_DATA)." if folder else ".")
        )
    if not root.is_dir():
        problem = "is a file" if root.exists() else "is missing"
        raise UserError(f"the folder {root} {problem}: set data.root to the folder of {name}.")
    return root


def source_root(description: Description, root: Path) -> Path:
    """Return the folder of a public data set, given this folder or the one around it; of others what came."""
    if description.distribution is not None:
        for inside in (root / description.folder, root / "coco" / description.folder):  # COCO-Stuff may lie beside COCO
            if inside.is_dir():
                return inside
    return root


def missing_paths(public: Distribution, root: Path, splits: Sequence[str]) -> list[str]:
    """Return one sentence for each path below a root that a data set needs and that is not there.

    Args:
        public: how the data set is distributed.
        root: its folder.
        splits: "train", "val" or both; what only another split needs is left out.
    """
    problems = []
    for alternatives, what in public.needs.items():
        belongs = [split for split in splits if not any(other in alternatives for other in _OTHER_SPLIT[split])]
        paths = [root / path for path in alternatives.split(" or ")]
        if not belongs or any(path.exists() for path in paths):
            continue
        sentence = f"{' or '.join(str(path) for path in paths)} is missing: expected the {what} there."
        archives = [path.with_name(f"{path.name}.zip") for path in paths]
        archives += [root / name for name in re.findall(r"\w+\.zip", what) if root / name not in archives]
        problems += [sentence + "".join(f" Unpack {archive}." for archive in archives if archive.is_file())]
    return problems
