"""Compare recipes by size, cost and speed: ``python -m maskformer_ext.analyze [RECIPE ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.command import choose_device, run_command, split_arguments
from maskformer_ext.cli.sizes import parse_size
from maskformer_ext.config.load import load_config
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_json

_HELP = """usage: python -m maskformer_ext.analyze [RECIPE ...] [key=value ...]

Print the parameters, multiply-adds and images per second of recipes in one table, beside the paper's figures.

  RECIPE        names of recipes or YAML files; by default all thirty of the paper
  repeats=3     images timed for each recipe; 0 times none and needs seconds for all thirty
  size=HxW      size of the image; by default the training crop, or 3 : 2 at the test size where there is none
  device=NAME   cpu, cuda, cuda:1 ...; by default a GPU where there is one
  output=FILE   also write the table as JSON

Every key of the configuration can be changed for all recipes, for instance model.num_queries=50.
Multiply-adds are those of convolutions and matrix products up to the mask logits of the last layer. The paper's FLOPs
are multiply-adds of its own counter, some 3 to 10% more or fewer; its speeds are of one V100."""

_OWN = {"repeats": "3", "size": None, "device": None, "output": None}
_WIDTH = 160
_COLUMNS = ("recipe", "input", "parameters", "GFLOPs", "paper", "images/s", "paper", "score in the paper")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(_analyze, _HELP, given or ["repeats=3"])


def _analyze(arguments: list[str]) -> int:
    recipes = [argument for argument in arguments if "=" not in argument]
    values, overrides = split_arguments([argument for argument in arguments if "=" in argument], _OWN)
    repeats, size = _repeats(str(values["repeats"])), parse_size(values["size"]) if values["size"] else None
    device = choose_device(values["device"])
    output = Path(values["output"]) if values["output"] else None
    if output and not output.parent.is_dir():
        raise UserError(f"output={output}: the folder {output.parent} does not exist")

    from rich.console import Console

    from maskformer_ext.inference.analysis import original_recipes

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)  # a narrow terminal wraps lines rather than losing figures
    rows = []
    for recipe in recipes or original_recipes():
        with console.status(recipe):
            rows.append(_row(recipe, overrides, size, device, repeats))
    console.print(_table(rows))
    if output:
        write_json(output, {"device": device, "repeats": repeats, "recipes": rows})
        print(output)
    return 0


def _row(recipe: str, overrides: list[str], size: tuple[int, int] | None, device: str, repeats: int) -> dict[str, Any]:
    from maskformer_ext.inference.analysis import count_operations, input_size, measure_speed, paper_figures

    config = load_config(recipe, overrides)
    size = size or input_size(config)
    parameters, gflops = count_operations(config, size)
    speed = measure_speed(config, size, device=device, repeats=repeats) if repeats else None
    paper = paper_figures(recipe)
    return {
        "recipe": recipe,
        "size": list(size),
        "parameters": parameters,
        "gflops": gflops,
        "images_per_second": speed,
        "paper": vars(paper) if paper else None,
    }


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(_COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        paper = row["paper"] or {}
        score = paper.get("score")
        table.add_row(
            row["recipe"],
            "x".join(map(str, row["size"])),
            f"{row['parameters'] / 1e6:.1f}M",
            f"{row['gflops']:.1f}",
            _cell(paper.get("gflops"), "{:.0f}"),
            _cell(row["images_per_second"], "{:.3g}"),
            _cell(paper.get("images_per_second"), "{:.1f}"),
            "\u2013" if score is None else f"{paper['metric']} {score:.1f}",
        )
    return table


def _cell(value: float | None, form: str) -> str:
    return "\u2013" if value is None else form.format(value)


def _repeats(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"repeats must be a number of images, 0 or more, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
