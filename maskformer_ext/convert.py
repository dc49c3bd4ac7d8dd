"""Convert weights: ``python -m maskformer_ext.convert INPUT OUTPUT [--to native|hf] [key=value ...]``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.cli.command import run_command, split_arguments
from maskformer_ext.cli.early import check_weights
from maskformer_ext.config.values import LAYOUTS
from maskformer_ext.errors import UserError

_HELP = """usage: python -m maskformer_ext.convert INPUT OUTPUT [--to native|hf] [key=value ...]

Read weights in any layout, check every name and shape, and write them to a new folder.

  INPUT               a .pkl or .pth of the original MaskFormer; a folder, file or hub id of transformers' MaskFormer,
                      such as facebook/maskformer-swin-tiny-ade; the output folder of a run, or one of its checkpoints;
                      or a backbone alone under the names of torchvision, timm, detectron2 or the Swin authors
  OUTPUT              the folder to make; it is complete or not there
  --to native         (default) model.safetensors, config.yaml and dataset.json, for evaluate, predict and
                      MaskFormer.from_pretrained
  --to hf             model.safetensors, config.json and preprocessor_config.json, for transformers'
                      MaskFormerForInstanceSegmentation.from_pretrained as well

  config=NAME         the recipe that weights of the original were trained with, for what shapes do not tell
                      (thresholds, resizing, padding, the classes of its public data set); by default the sizes are
                      read off the shapes, and the rest are defaults
  classes=FILE        a classes file (docs/data.md): names, colours, which classes are things
  num_classes=K       for other classes than those of the weights; needs reset_head=true
  reset_head=true     start with a new classifier, random from seed 0
  backbone=NAME       take the backbone only, and write model.safetensors and config.yaml for model.backbone_weights;
                      a ResNet or Swin without a head needs no NAME, other names are timm's
  overwrite=true      replace OUTPUT if it holds an earlier conversion and nothing else

A .pkl is read without running anything in it: what is neither an array nor a plain container is refused by name."""

_OWN = {
    "to": "native",
    "config": None,
    "classes": None,
    "num_classes": None,
    "reset_head": "false",
    "backbone": None,
    "overwrite": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a problem that the user can fix."""
    return run_command(_convert, _HELP, arguments)


def _convert(arguments: list[str]) -> int:
    source, output, keys = _split(arguments)
    values, others = split_arguments(keys, _OWN)
    if others:
        raise UserError(f"{others[0].partition('=')[0]} cannot be set here: the keys are {', '.join(_OWN)}")
    layout = values["to"] or ""
    if layout not in LAYOUTS:
        raise UserError(f"--to must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    num_classes, reset_head = _positive(values, "num_classes"), _flag(values, "reset_head")
    overwrite = _flag(values, "overwrite")
    check_weights("INPUT", source)

    import torch

    from maskformer_ext.checkpoints.models import load_model
    from maskformer_ext.checkpoints.sizes import NoHead
    from maskformer_ext.modeling.weights import nonfinite_weights

    info = _read_classes(values["classes"])
    torch.manual_seed(0)
    if values["backbone"]:
        return _convert_backbone(source, output, values)
    try:
        model = load_model(
            source,
            config=values["config"],
            num_classes=num_classes or (info.num_classes if info else None),
            reset_head=reset_head,
        )
    except NoHead:
        return _convert_backbone(source, output, values)
    folder = model.save_pretrained(output, layout=layout, info=info, overwrite=overwrite)
    parameters = sum(value.numel() for value in model.parameters())
    print(
        f"{model.config.architecture} with {model.config.backbone}, {model.num_classes} classes, "
        f"{parameters / 1e6:.1f} million parameters"
    )
    if problem := nonfinite_weights(model):
        print(f"warning: {source}: the weights are not finite: {problem}", file=sys.stderr)
    print(folder)
    return 0


def _convert_backbone(source: str, output: str, values: dict[str, str | None]) -> int:
    from maskformer_ext.checkpoints.backbone_folders import convert_backbone

    for key in ("to", "config", "classes", "num_classes", "reset_head"):
        if values[key] != _OWN[key]:
            raise UserError(
                f"{key}={values[key]} does not go with the weights of a backbone alone, which {source} holds"
            )
    name, count = convert_backbone(source, output, name=values["backbone"], overwrite=_flag(values, "overwrite"))
    print(f"{name}, {count / 1e6:.1f} million numbers; use them with")
    print(f"  model.backbone={name} model.backbone_weights={output}")
    print(output)
    return 0


def _split(arguments: list[str]) -> tuple[str, str, list[str]]:
    """Separate INPUT and OUTPUT from keys; ``--key value`` and ``--key=value`` are ``key=value``."""
    places, keys = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("--"):
            name = argument.removeprefix("--")
            keys.append(name if "=" in name else f"{name}={next(rest, '')}")
        elif re.match(r"[\w.]+=", argument):
            keys.append(argument)
        else:
            places.append(argument)
    if len(places) != 2:
        raise UserError(f"give INPUT and OUTPUT, got {len(places)} names: {' '.join(places) or 'none'}")
    return places[0], places[1], keys


def _read_classes(file: str | None):
    from maskformer_ext.data.classes import read_classes_file, void_id
    from maskformer_ext.data.types import DatasetInfo

    if not file:
        return None
    path = Path(file).expanduser()
    table = read_classes_file(path)
    void = 255 if table.ignore_label is None else void_id(table.ignore_label, len(table.classes))
    return DatasetInfo(path.stem, table.classes, table.colors, table.things, void)


def _flag(values: dict[str, str | None], key: str) -> bool:
    if values[key] not in ("true", "false"):
        raise UserError(f"{key} must be true or false, got {values[key]!r}")
    return values[key] == "true"


def _positive(values: dict[str, str | None], key: str) -> int | None:
    text = values[key]
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{key} must be a whole number, at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
