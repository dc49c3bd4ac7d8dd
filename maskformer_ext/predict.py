"""Segment images: ``python -m maskformer_ext.predict checkpoint=RUN input=FILE|FOLDER|GLOB output=FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from maskformer_ext.command import (
    choose_device,
    make_folder,
    override_checkpoint,
    required,
    run_command,
    split_arguments,
)
from maskformer_ext.errors import UserError
from maskformer_ext.images import EXTENSIONS

_HELP = """usage: python -m maskformer_ext.predict checkpoint=RUN input=FILE|FOLDER|GLOB output=FOLDER [key=value ...]

Segment images and write, below the output folder,

  overlays/NAME.png   colours and outlines over the image, names and a legend (small images are enlarged)
  ids/NAME.png        semantic: the class id of each pixel (8 bits, 16 where there are more than 256 classes);
                      panoptic, instance: the segment id of each pixel, 16 bits, 0 = none
  json/NAME.json      for each segment id, category, score, area in pixels, box (x0, y0, x1, y1, half-open);
                      instances, which may overlap, also carry their mask as COCO run lengths

  checkpoint=PATH     output folder of a run (its newest checkpoint), a checkpoints/iter_* folder, or model.safetensors
  input=PATH          an image, a folder (with the folders in it) or a quoted glob such as 'photos/*.jpg'
  output=FOLDER       is made where it does not exist
  task=NAME           semantic, instance or panoptic; by default panoptic where the model knows things, else semantic
  names=true          write class names on the overlays
  device=NAME         cpu, cuda, cuda:1 ...; by default a GPU where there is one

Every key of the configuration below inference can be changed too, for instance inference.tile=512 for large or crowded
images, or inference.object_mask_threshold=0.5; python -m maskformer_ext.train --help lists them.

An image that cannot be read is named and left out; the exit status is then 1."""

_OWN = {"checkpoint": None, "input": None, "output": None, "task": None, "names": "true", "device": None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where images failed, 2 after a problem that the user can fix."""
    return run_command(_predict, _HELP, arguments)


def _predict(arguments: list[str]) -> int:
    values, overrides = split_arguments(arguments, _OWN)
    checkpoint = required(values, "checkpoint", "the output folder of a run or a checkpoint")
    source = required(values, "input", "an image, a folder or a glob")
    output = Path(required(values, "output", "the folder for the results")).expanduser()
    if values["names"] not in ("true", "false"):
        raise UserError(f"names must be true or false, got {values['names']!r}")
    images = find_images(source)
    device = choose_device(values["device"])

    from maskformer_ext.engine.state import load_checkpoint
    from maskformer_ext.prediction_files import write_prediction

    model, config, info = load_checkpoint(checkpoint, device)
    config = override_checkpoint(config, overrides)
    task = choose_task(values["task"], config.model.architecture, bool(info.thing_classes), tta=config.inference.tta)
    make_folder(output)
    failed = 0
    for number, (path, name) in enumerate(images, start=1):
        try:
            found = write_prediction(
                model,
                path,
                output,
                name,
                task=task,
                info=info,
                config=config.inference,
                names=values["names"] == "true",
            )
            print(f"{number}/{len(images)}  {path}: {found}")
        except (UserError, OSError, MemoryError) as error:
            failed += 1
            message = str(error) if isinstance(error, UserError) else f"{path}: {error}"
            print(f"error: {' '.join(message.split())}", file=sys.stderr)
    print(output)
    if failed:
        print(f"error: {failed} of {len(images)} images failed", file=sys.stderr)
    return 1 if failed else 0


def find_images(source: str) -> list[tuple[Path, str]]:
    """List the images that a path or glob names.

    Args:
        source: a file, a folder or a glob.

    Returns:
        Path, and name of the results (without ending; the path below the folder), in alphabetical order.

    Raises:
        UserError: if there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        files, base = [path], path.parent
    elif path.is_dir():
        files, base = sorted(file for file in path.rglob("*") if _is_image(file)), path
        if not files:
            raise UserError(f"input={source}: the folder holds no image ({', '.join(EXTENSIONS)})")
    else:
        files, base = _glob(path), None
        if not files:
            raise UserError(f"input={source}: no such file or folder, and no file matches it as a glob")
    names = [file.relative_to(base) if base else Path(file.name) for file in files]
    stems = [name.with_suffix("").as_posix() for name in names]
    repeated = {stem for stem in stems if stems.count(stem) > 1}  # a.jpg beside a.png, or two folders' a.jpg
    if not repeated:
        return list(zip(files, stems, strict=True))
    full = [name.as_posix() if stem in repeated else stem for name, stem in zip(names, stems, strict=True)]
    if len(set(full)) < len(full):  # the same file name from several folders of a glob
        full = ["_".join(file.parts[-2:]) for file in files]
    if len(set(full)) < len(full):
        raise UserError(f"input={source}: several files have the same name; give one folder at a time")
    return list(zip(files, full, strict=True))


def _glob(pattern: Path) -> list[Path]:
    import glob

    return sorted(Path(match) for match in glob.glob(str(pattern), recursive=True) if _is_image(Path(match)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def choose_task(task: str | None, architecture: str, knows_things: bool, *, tta: bool = False) -> str:
    """Return the task to do: the named one, or what the model is for.

    Raises:
        UserError: if the task does not exist or the model cannot do it.
    """
    from maskformer_ext.prediction import TASKS

    if task is None:
        return "panoptic" if knows_things and architecture == "maskformer" and not tta else "semantic"
    if task not in TASKS:
        raise UserError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if task != "semantic" and architecture != "maskformer":
        raise UserError(f"task={task}: a {architecture} model can do semantic only")
    if task != "semantic" and tta:
        raise UserError(f"task={task}: test-time augmentation (inference.tta) is for semantic only")
    return task


if __name__ == "__main__":
    sys.exit(main())
