"""Folders that are whole or not there: written under a temporary name, flushed to the disk, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskformer_ext.errors import UserError


@contextmanager
def new_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder that takes the place of ``target`` when the block ends, unless it raises.

    Args:
        target: where the files go in the end.
        overwrite: replace a folder that is there; only if it holds no other files than those written now.

    Raises:
        UserError: if ``target`` is in the way or the disk does not take the files; ``target`` is as it was before.
    """
    target = Path(target).expanduser()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    replaced = target.with_name(f".{target.name}.{os.getpid()}.replaced")
    _check_free(target, overwrite)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.iterdir(), temporary]:
            sync(path)
        if target.is_dir():
            written = {path.name for path in temporary.iterdir()}
            if others := sorted(path.name for path in target.iterdir() if path.name not in written):
                raise UserError(
                    f"{target} is not replaced: it also holds {others[0]}, which is no part of a checkpoint"
                )
            os.replace(target, replaced)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as error:
        if replaced.exists() and not target.exists():
            os.replace(replaced, target)
        raise UserError(f"{target} could not be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: name a folder")
    if target.is_dir() and not overwrite and any(target.iterdir()):
        raise UserError(f"{target} exists and is not empty: name another folder, or give overwrite=true")
