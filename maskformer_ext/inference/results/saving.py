"""Files of a result: its overlay alone, or the folder that `predict` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from maskformer_ext.errors import UserError, printable
from maskformer_ext.files import read_json, write_json, writing
from maskformer_ext.inference.results.context import PICTURED_SCORE, source_of
from maskformer_ext.inference.results.drawing import draw_result
from maskformer_ext.media.images import write_png
from maskformer_ext.pictures.sizes import LONG_SIDE

if TYPE_CHECKING:
    from maskformer_ext.inference.results.base import Result


def save_result(result: Result, path: str | Path, name: str | None, options: dict[str, Any]) -> Path:
    """Write an overlay, or a folder; arguments and errors are those of `Result.save`."""
    path = Path(path).expanduser()
    if path.suffix and not path.is_dir():
        if path.suffix.lower() not in _endings():
            raise ValueError(
                f"save: {path} must be a folder or a picture such as {path.with_suffix('.png').name}, got the ending "
                f"{path.suffix}"
            )
        picture = result.plot(**options)
        if path.suffix.lower() == ".png":
            write_png(picture, path)
        else:
            with writing(path) as temporary:
                picture.save(temporary, quality=90)
        return path
    own = name or result.context.name
    _check_owner(path, own, source_of(result.context))
    write_result(result, path, own, **{_WRITTEN_AS.get(option, option): value for option, value in options.items()})
    return path / "overlays" / f"{own}.png"


def write_result(
    result: Result,
    folder: Path,
    name: str,
    *,
    source: str | None = None,
    image: Any = None,
    names: bool = True,
    legend: bool = True,
    min_score: float = PICTURED_SCORE,
    opacity: float = 0.5,
    longest_side: int = LONG_SIDE,
) -> list[dict[str, Any]]:
    """Write ``overlays/NAME.png``, ``ids/NAME.png`` and, last, ``json/NAME.json``.

    Args:
        result: of `segment`.
        folder: where they go.
        name: of the files, without ending; may hold folders.
        source: what the description calls the image; None: its path.
        image: what the overlay is drawn on; None: the result's own.
        names: as `Result.plot`.
        legend: likewise.
        min_score: overlay and ids show instances of at least this score; the description has all.
        opacity: of the colours, 0..1.
        longest_side: of the overlay in pixels at most, without the legend; 0 = never smaller than the image.

    Returns:
        The segments, as the description has them.

    Raises:
        UserError: if a file cannot be written, or there are more segments than a map of ids can number.
        ValueError: as `Result.plot`.
    """
    ids = result.id_map(min_score=min_score)
    overlay = draw_result(
        result,
        image,
        names=names,
        legend=legend,
        min_score=min_score,
        opacity=opacity,
        longest_side=longest_side,
        ids=ids,
    )
    segments = result.describe()
    write_png(overlay, folder / "overlays" / f"{name}.png")
    write_png(Image.fromarray(ids), folder / "ids" / f"{name}.png")
    height, width = ids.shape
    source = printable(source_of(result.context) if source is None else source)
    described = {"image": source, "task": result.task, "height": height, "width": width, "segments": segments}
    write_json(description_file(folder, name), described)
    return segments


def description_file(folder: Path, name: str) -> Path:
    """Return where the description of an image goes; where it is, the image is done."""
    return folder / "json" / f"{name}.json"


_WRITTEN_AS = {"alpha": "opacity", "size": "longest_side"}


def _endings() -> set[str]:
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE}


def _check_owner(folder: Path, name: str, source: str) -> None:
    """Raise a UserError where a folder holds results of another image under this name."""
    file = description_file(folder, name)
    if not file.is_file():
        return
    described = read_json(file, "a description that predict or save wrote")
    before = described.get("image") if isinstance(described, dict) else None
    if before is None or Path(str(before)).absolute() != Path(printable(source)).absolute():
        raise UserError(
            f"{file} belongs to another image, {printable(before)}, and not to {printable(source)}: give name=, or "
            "another folder"
        )
