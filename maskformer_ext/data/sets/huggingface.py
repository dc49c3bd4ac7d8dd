"""The user's own images in a data set of Hugging Face `datasets`: saved to disk, as parquet files, or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maskformer_ext.config import DataConfig
from maskformer_ext.data.description import Description
from maskformer_ext.data.layouts.tables import hub_id, locate, recognise_hub, recognise_tables

if TYPE_CHECKING:
    from maskformer_ext.data.readers.tables import Tables


def build(config: DataConfig, root: Path, split: str) -> Tables:
    """Return a split, of what lies in the root, or of the data set on the hub that has this name."""
    from maskformer_ext.data.readers.table_sources import open_tables

    return open_tables(config, root, split, hub_id(config))


DESCRIPTION = Description(
    title="Your own images in a data set of Hugging Face datasets",
    tasks=("semantic", "instance", "panoptic"),
    usual_task="semantic",
    build=build,
    own_classes=True,
    locate=locate,
    recognise=recognise_tables,
    recognise_given=recognise_hub,
    no_recipe="config=folder recognises it",
)
