"""The folder that `predict` writes: how it is recognised later, and what its results were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError
from maskformer_ext.files import read_json, write_json

_SETTINGS_FILE = "settings.json"
_FOLDERS = ("overlays", "ids", "json", "queries")
_SUMMARY_FILE = "queries.png"
_SETTINGS = ("checkpoint", "task", "min_score", "inference")


def note_settings(folder: Path, settings: dict[str, Any], *, resume: bool, write: bool = True) -> None:
    """Write down what the results of a folder were made with; by this file the folder is recognised later.

    Args:
        folder: of the results.
        settings: values for ``checkpoint``, ``task``, ``min_score`` and ``inference``.
        resume: what is there is to be completed.
        write: False: check only, as another process writes.

    Raises:
        UserError: if the file is somebody else's. With ``resume`` also if earlier results were made with something
            else, or do not say with what.
    """
    file = folder / _SETTINGS_FILE
    settings = json.loads(json.dumps(settings))  # as it will be read
    before = None
    if file.is_file():
        try:
            before = read_json(file, "the settings of earlier results")
        except UserError as error:
            if resume:
                raise UserError(f"resume=true: {error}; give resume=false to make all results anew") from None
        else:
            if not _are_settings(before):
                raise UserError(f"{file} is not a file of predict, which would overwrite it: give another output")
    if resume and before is not None:
        for key, value in settings.items():
            if key in before and before[key] != value:  # earlier versions noted less
                raise UserError(
                    f"resume=true: {folder} holds results of another {key}; give another output or resume=false"
                )
    if write:
        write_json(file, settings)


class EarlierResults:
    """What `predict` has written: known by its place below a folder with such settings. Each folder is read once.

    A link is what it leads to.
    """

    def __init__(self) -> None:
        self._inside: dict[Path, bool] = {}
        self._outputs: dict[Path, bool] = {}

    def __contains__(self, file: Path) -> bool:
        if file.is_symlink():
            file = file.resolve()
        if file.name == _SUMMARY_FILE and self._is_output(file.parent.resolve()):
            return True
        if file.parent not in self._inside:
            folder = file.parent.resolve()
            above = (folder, *folder.parents)
            self._inside[file.parent] = any(place.name in _FOLDERS and self._is_output(place.parent) for place in above)
        return self._inside[file.parent]

    def _is_output(self, folder: Path) -> bool:
        if folder not in self._outputs:
            self._outputs[folder] = _holds_settings(folder)
        return self._outputs[folder]


def _holds_settings(folder: Path) -> bool:
    file = folder / _SETTINGS_FILE
    if not file.is_file():
        return False
    try:
        if _are_settings(read_json(file, "settings")):
            return True
    except UserError:
        pass
    return all((folder / name).is_dir() for name in ("overlays", "ids", "json"))  # damaged: its neighbours tell


def results_of(folder: Path, name: str) -> list[Path]:
    """Return the image files that are written for an image of a name."""
    return [folder / kind / f"{name}.png" for kind in _FOLDERS if kind != "json"]


def _are_settings(values: Any) -> bool:
    return isinstance(values, dict) and all(key in values for key in _SETTINGS)
