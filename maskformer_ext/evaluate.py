"""Score a checkpoint: ``python -m maskformer_ext.evaluate checkpoint=RUN key=value ...``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from maskformer_ext.cli.command import (
    choose_device,
    override_checkpoint,
    required,
    run_command,
    split_arguments,
    with_progress,
)
from maskformer_ext.cli.early import check_data_root, check_weights
from maskformer_ext.config import Config
from maskformer_ext.config.tasks import never_learnt
from maskformer_ext.errors import UserError
from maskformer_ext.files import write_json

_HELP = """usage: python -m maskformer_ext.evaluate checkpoint=RUN [key=value ...]

Score a checkpoint on its data set and write the scores as JSON.

  checkpoint=PATH   output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors
  split=val         val or train
  limit=N           the first N images only; all by default
  submission=FOLDER also write the results as a benchmark takes them, in the format that format= names:
  format=NAME       ade20k (PNGs, class + 1), cityscapes or mapillary_vistas (PNGs of label ids), coco_panoptic or
                    ade20k_panoptic (JSON and PNGs), coco_instance (JSON)
  output=FILE       where the JSON goes; by default evaluation.json in the output folder of the run
  device=NAME       cpu, cuda, cuda:1 ...; by default a GPU where there is one

Several GPUs share the images: torchrun --nproc-per-node 4 -m maskformer_ext.evaluate checkpoint=RUN

Every key of the configuration below data and inference can be changed too, for instance data.root=FOLDER,
inference.tile=512 or inference.tasks=[panoptic]; python -m maskformer_ext.train --help lists them."""

_OWN = {
    "checkpoint": None,
    "split": "val",
    "limit": None,
    "submission": None,
    "format": None,
    "output": None,
    "device": None,
}
_TABLE_COLUMNS = ("IoU", "ACC", "PQ_semantic", "PQ", "SQ", "RQ", "AP", "AP50")
_SUMMARY = (
    ("mIoU", "fwIoU", "mACC", "pACC"),
    ("PQ_semantic", "SQ_semantic", "RQ_semantic"),
    ("PQ", "SQ", "RQ"),
    ("PQ_things", "SQ_things", "RQ_things"),
    ("PQ_stuff", "SQ_stuff", "RQ_stuff"),
    ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 after a problem that the user can fix."""
    return run_command(_evaluate, _HELP, arguments)


def _evaluate(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    if values["split"] not in ("train", "val"):
        raise UserError(f"split must be train or val, got {values['split']!r}")
    limit = _limit(values["limit"])
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if launched and values["device"]:
        raise UserError(f"device={values['device']} does not go with torchrun, which gives each process a device")
    check_weights("checkpoint", checkpoint)
    check_data_root(override_checkpoint(Config(), overrides).data)
    if values["output"] and not Path(values["output"]).parent.is_dir():
        raise UserError(f"output={values['output']}: the folder {Path(values['output']).parent} does not exist")

    from maskformer_ext.checkpoints.models import load_checkpoint
    from maskformer_ext.checkpoints.runs import resolve_checkpoint
    from maskformer_ext.data.build import build_dataset
    from maskformer_ext.engine.distributed import explain_lost_processes, start_processes, stop_processes
    from maskformer_ext.evaluation.run import evaluate, tasks_of

    rank, world, device = 0, 1, "cpu"
    if launched:
        accelerator = start_processes()
        rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    else:
        device = choose_device(values["device"])
    model, config, info = load_checkpoint(checkpoint, device)
    trained, config = config.data.task, override_checkpoint(config, overrides)
    dataset = build_dataset(config.data, str(values["split"]))
    if not info.name and info.num_classes == dataset.info.num_classes:
        info = dataset.info  # the weights say how many classes there are, not what they are called
    if dataset.info.classes != info.classes:
        raise UserError(
            f"the checkpoint knows the classes of {info.name} ({', '.join(info.classes[:5])}...), but the data set "
            f"{dataset.info.name} has others ({', '.join(dataset.info.classes[:5])}...): set data.name, or where they "
            "are the same under other names, name them with maskformer_ext.convert config=RECIPE or classes=FILE"
        )
    output = Path(values["output"] or default_output(resolve_checkpoint(checkpoint)))
    asked = tasks_of(config, dataset.info)
    if rank == 0 and (doubt := never_learnt(trained, asked, bool(dataset.info.thing_classes))):
        print(f"warning: {doubt}", file=sys.stderr)
    writer = _writer(values["submission"], values["format"], dataset.info)  # which knows the ids of its files

    def score(progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        return evaluate(model, dataset, config, rank=rank, world=world, limit=limit, progress=progress, writer=writer)

    with explain_lost_processes(lambda: "start the same command again"):
        metrics = score(None) if rank else with_progress("images", score)
        stop_processes()
    if rank:
        return 0
    print_scores(metrics, info.classes)
    write_json(output, {"checkpoint": str(checkpoint), "split": values["split"], **metrics})
    if writer is not None:
        print(values["submission"])
    print(output)
    return 0


def _writer(folder: str | None, format: str | None, info: Any) -> Any:
    from maskformer_ext.evaluation.submission import FORMATS, create_writer

    if (folder is None) != (format is None):
        raise UserError(f"submission= and format= belong together: give a folder and one of {', '.join(FORMATS)}")
    return None if folder is None else create_writer(str(format), Path(folder).expanduser(), info)


def default_output(weights: Path) -> Path:
    """Return where the scores of a ``model.safetensors`` go: into its run's folder, or else beside it."""
    folder = weights.parent
    return (folder.parent.parent if folder.parent.name == "checkpoints" else folder) / "evaluation.json"


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"limit must be a number of images, at least 1, got {text!r}")
    return int(text)


def print_scores(metrics: dict[str, Any], classes: Sequence[str]) -> None:
    """Print the scores of all classes together, then a table with a row for each class.

    Args:
        metrics: what `evaluation.run.evaluate` returned.
        classes: names, in the order of the rows.
    """
    from rich.console import Console
    from rich.markup import escape  # names of classes may hold brackets, which Rich takes for styles
    from rich.table import Table

    from maskformer_ext.evaluation.coverage import describe_coverage

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for names in _SUMMARY:
        parts = [f"{name} [bold]{metrics[name]:.4f}[/bold]" for name in names if name in metrics]
        if parts:
            console.print("   ".join(parts))
    for key, value in metrics.items():
        if key.startswith("baseline_all_"):
            console.print(f"every pixel called {escape(key.removeprefix('baseline_all_'))}: PQ {value:.4f}")
    per_class = metrics["per_class"]
    columns = [name for name in _TABLE_COLUMNS if any(scores.get(name) is not None for scores in per_class.values())]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    for name in classes:
        cells = (per_class[name].get(column) for column in columns)
        table.add_row(escape(name), *("\u2013" if cell is None else f"{cell:.3f}" for cell in cells))
    console.print(table)
    if covered := describe_coverage(metrics, classes):
        console.print(covered, markup=False)
    skipped = f", {metrics['skipped']} left out (data.on_error=skip)" if "skipped" in metrics else ""
    console.print(f"{metrics['images']} images in {metrics['seconds']:.1f} s{skipped}")


if __name__ == "__main__":
    sys.exit(main())
