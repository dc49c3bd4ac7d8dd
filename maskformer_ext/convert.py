"""Convert weights: ``maskformer-ext convert INPUT OUTPUT [--to native|hf] [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from maskformer_ext.cli.arguments import boolean, choice, split_arguments, split_places, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.cli.early import check_weights
from maskformer_ext.cli.hints import print_next, shell
from maskformer_ext.config.values import LAYOUTS
from maskformer_ext.errors import UserError

_HELP = """usage: maskformer-ext convert INPUT OUTPUT [--to native|hf] [key=value ...]

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
    places, keys = split_places(arguments)
    if len(places) != 2:
        raise UserError(f"give INPUT and OUTPUT, got {len(places)} names: {' '.join(places) or 'none'}")
    source, output = places
    values, _ = split_arguments(keys, _OWN, sections=())
    layout = choice(values, "to", LAYOUTS, name="--to")
    num_classes = None if values["num_classes"] is None else whole_number(values, "num_classes", least=1)
    reset_head, overwrite = boolean(values, "reset_head"), boolean(values, "overwrite")
    check_weights("INPUT", source)

    from maskformer_ext.checkpoints.backbone_folders import convert_backbone
    from maskformer_ext.checkpoints.conversion import convert_model
    from maskformer_ext.checkpoints.layouts.inferred_config import NoHead

    if not values["backbone"]:
        try:
            done = convert_model(
                source,
                output,
                layout=layout,
                config=values["config"],
                classes=values["classes"],
                num_classes=num_classes,
                reset_head=reset_head,
                overwrite=overwrite,
            )
        except NoHead:
            pass
        else:
            print(done.summary)
            if done.problem:
                print(f"warning: {source}: the weights are not finite: {done.problem}", file=sys.stderr)
            print(done.folder)
            print_next([f"predict checkpoint={shell(output)} input=photo.jpg output=predictions"])
            return 0
    for key in ("to", "config", "classes", "num_classes", "reset_head"):
        if values[key] != _OWN[key]:
            raise UserError(
                f"{key}={values[key]} does not go with the weights of a backbone alone, which {source} holds"
            )
    name, count = convert_backbone(source, output, name=values["backbone"], overwrite=overwrite)
    print(f"{name}, {count / 1e6:.1f} million numbers; use them with")
    print(f"  model.backbone={name} model.backbone_weights={output}")
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
