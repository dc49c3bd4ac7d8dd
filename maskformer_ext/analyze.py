"""Compare recipes by size, cost and speed: ``maskformer-ext analyze [RECIPE ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from maskformer_ext.cli.arguments import boolean, choose_device, new_file, size, split_arguments, whole_number
from maskformer_ext.cli.command import run_command
from maskformer_ext.files import write_json

_HELP = """usage: maskformer-ext analyze [RECIPE ...] [key=value ...]

Print the parameters, multiply-adds and images per second of recipes in one table, beside the paper's figures.

  RECIPE        names of recipes or YAML files; by default all thirty of the paper
  repeats=3     images timed per recipe; 0 times none and needs seconds for all thirty
  size=HxW      size of the image; by default the training crop, or 3 : 2 at the test size where there is none
  device=NAME   cpu, cuda, cuda:1 ...; by default a GPU where there is one
  peers=false   true: also run the same random weights in transformers, onnxruntime and OpenVINO, where these are
                installed: time and memory of the network on the CPU, each in a process of its own
  output=FILE   also write the tables as JSON

Every key of the configuration can be changed for all recipes, for instance model.num_queries=50.
Multiply-adds are those of convolutions and matrix products up to the mask logits of the last layer. The paper's FLOPs
are multiply-adds of its own counter, some 3 to 10% more or fewer; its speeds are of one V100."""

_OWN = {"repeats": "3", "size": None, "device": None, "peers": "false", "output": None}
_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(_analyze, _HELP, given or ["repeats=3"])  # no argument means all recipes here, and not the help


def _analyze(arguments: list[str]) -> int:
    recipes = [argument for argument in arguments if "=" not in argument]
    values, overrides = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    repeats = whole_number(values, "repeats", "a number of images")
    image_size = size(values, "size") if values["size"] else None
    device = choose_device(values)
    peers = boolean(values, "peers")
    output = new_file(values, "output") if values["output"] else None

    from rich.console import Console

    from maskformer_ext.inference.analysis import analyze_recipe, input_size, original_recipes
    from maskformer_ext.inference.analysis_table import draw_peers, draw_table

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)  # a narrow terminal wraps lines rather than losing figures
    rows = []
    for recipe in recipes or original_recipes():
        with console.status(recipe):
            rows.append(analyze_recipe(recipe, overrides, image_size, device=device, repeats=repeats))
    console.print(draw_table(rows))
    if peers:
        from maskformer_ext.config.load import load_config
        from maskformer_ext.inference.peers import compare_peers

        for row in rows:
            config = load_config(row["recipe"], overrides)
            with console.status(f"{row['recipe']} in other runtimes"):
                row["peers"] = compare_peers(config, image_size or input_size(config), max(1, repeats))
            console.print(draw_peers(row["recipe"], (row["size"][0], row["size"][1]), row["peers"]))
    if output:
        write_json(output, {"device": device, "repeats": repeats, "recipes": rows})
        print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
