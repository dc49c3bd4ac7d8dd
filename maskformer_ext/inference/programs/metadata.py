"""What an exported file says of itself: task, classes, preprocessing, thresholds; read without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from maskformer_ext.checkpoints.layouts.native import info_from_json
from maskformer_ext.config import Config, to_dict
from maskformer_ext.config.load import config_from_dict
from maskformer_ext.config.values import PROGRAM_ENDINGS
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.inference.programs.onnx_metadata import read_onnx_metadata
from maskformer_ext.inference.programs.pt2_metadata import read_pt2_metadata

FORMAT = 1
_PREFIX = "maskformer_ext."  # of each key
_LAYOUT = "uint8 RGB (batch, 3, height, width), not normalised; mean, std and padding are part of the program"
_RESIZE = (
    "not part of the program: bring the image to these sizes first (shortest side min_size, 0 keeps it; longest side "
    "at most max_size); results have the size of the input"
)


@dataclass(frozen=True)
class ProgramMetadata:
    """What a program needs to be used, beside its operators.

    Attributes:
        task: "semantic", "instance" or "panoptic".
        outputs: names of the program's results, in their order.
        size: height and width of the images; None: any.
        batch: how many images a call takes; None: any number.
        recipe: the whole configuration that the weights came with, without paths of the machine.
        info: the classes.
        version: of this package, which wrote the program.
    """

    task: str
    outputs: tuple[str, ...]
    size: tuple[int, int] | None
    batch: int | None
    recipe: Config
    info: DatasetInfo
    version: str

    def to_texts(self) -> dict[str, str]:
        """Return keys and JSON values: first what other people's programs need, then the recipe."""
        model, inference = self.recipe.model, self.recipe.inference
        values: dict[str, Any] = {
            "format": FORMAT,
            "version": self.version,
            "task": self.task,
            "outputs": self.outputs,
            "names": self.info.classes,
            "things": [int(label in self.info.thing_classes) for label in range(self.info.num_classes)],
            "colors": self.info.colors,
            "input": _LAYOUT,
            "size": self.size,
            "batch": self.batch,
            "mean": model.pixel_mean,
            "std": model.pixel_std,
            "multiple": model.size_divisibility,
            "resize": {"min_size": inference.min_size, "max_size": inference.max_size, "note": _RESIZE},
            "thresholds": {
                "object_mask_threshold": inference.object_mask_threshold,
                "overlap_threshold": inference.overlap_threshold,
                "mask_threshold": inference.mask_threshold,
                "top_k": inference.top_k,
            },
            "dataset": asdict(self.info),
            "recipe": to_dict(self.recipe),
        }
        return {f"{_PREFIX}{key}": json.dumps(value) for key, value in values.items()}


def shareable(recipe: Config) -> Config:
    """Return a recipe without what only means something on the machine that trained."""
    plain = Config()
    data: dict[str, Any] = {
        field.name: getattr(plain.data, field.name)
        for field in fields(recipe.data)
        if isinstance(value := getattr(recipe.data, field.name), str) and Path(value).expanduser().is_absolute()
    }
    return replace(
        recipe,
        output_dir=plain.output_dir,
        resume=plain.resume,
        init_from=None,
        data=replace(recipe.data, **(data | {"root": None})),
        model=replace(recipe.model, backbone_weights=None),
    )


def is_program(source: str | Path) -> bool:
    """Return whether a checkpoint is an exported program, by its ending."""
    return Path(source).suffix.lower() in PROGRAM_ENDINGS


def read_metadata(path: str | Path) -> ProgramMetadata:
    """Read what a program says of itself; nothing of it is run.

    Raises:
        UserError: if the file cannot be read, is damaged, or was not written by ``export``.
    """
    path = Path(path).expanduser()
    texts = read_onnx_metadata(path) if path.suffix.lower() == ".onnx" else read_pt2_metadata(path)
    return _parse(texts, printable(path))


def _parse(texts: Mapping[str, str], source: str) -> ProgramMetadata:
    own = {key.removeprefix(_PREFIX): text for key, text in texts.items() if key.startswith(_PREFIX)}
    if "format" not in own:
        raise UserError(
            f"{source} was not written by maskformer-ext export: its metadata does not say which classes it knows and "
            "how images are prepared. Write it with export from a checkpoint of this package"
        )
    try:
        values = {key: json.loads(text) for key, text in own.items() if key != "dataset"}
        if values["format"] != FORMAT:
            raise ValueError(f"it has format {values['format']!r:.20}, this version reads {FORMAT}: export it again")
        size, batch = values["size"], values["batch"]
        return ProgramMetadata(
            task=str(values["task"]),
            outputs=tuple(map(str, values["outputs"])),
            size=None if size is None else (int(size[0]), int(size[1])),
            batch=None if batch is None else int(batch),
            recipe=config_from_dict(values["recipe"], source),
            info=info_from_json(own["dataset"]),
            version=str(values["version"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}: its metadata is damaged: {why(error)}") from None
