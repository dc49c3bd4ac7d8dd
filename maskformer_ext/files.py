"""Files and folders that are whole or not there, and files of others that are read with care.

Every file that this package writes goes through `writing` or `new_folder`. What is written has a temporary name until
it is complete. So neither a crash nor a full disk nor a second process leaves half a file under its final name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskformer_ext.errors import UserError, printable, why

_LONGEST_NAME = 200  # in bytes; file systems allow 255, and a temporary name is a little longer

# What encoders raise where the disk fails or a value does not fit their format. torch.save raises RuntimeError.
_WRITE_ERRORS = (OSError, RuntimeError, ValueError, OverflowError, MemoryError)


@contextmanager
def writing(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends, unless it raises.

    The folders above are made. Nothing stays behind when the block raises.

    Args:
        path: where the file goes in the end.
        durable: flush the file to the disk before it gets its name.

    Raises:
        UserError: if the file cannot be written; what was there before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{_short(path.name)}.tmp{path.suffix}")  # some encoders insist on the ending
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except _WRITE_ERRORS as error:
        raise UserError(f"{path} could not be written: {_why_not_written(error)}") from error
    finally:
        _remove(temporary)


def write_text(path: str | Path, text: str, *, durable: bool = False) -> None:
    """Write a UTF-8 text file; errors as `writing`."""
    with writing(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, values: Any, *, durable: bool = False) -> None:
    """Write values as indented JSON; errors as `writing`."""
    write_text(path, json.dumps(values, indent=2) + "\n", durable=durable)


def append_text(path: str | Path, text: str) -> None:
    """Add UTF-8 text to a file; where the disk takes a part only, that part is taken back.

    Raises:
        UserError: if the file cannot be written.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            before, data = file.tell(), text.encode("utf-8", errors="backslashreplace")
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise UserError(f"{path} could not be written: {why(error)}") from error


def make_folder(folder: str | Path) -> None:
    """Make a folder and those above it.

    Raises:
        UserError: if that cannot be done.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"the folder {folder} cannot be made: a file has this name") from None
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made: {why(error)}") from None


@contextmanager
def new_folder(target: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``target`` when the block ends, unless it raises.

    Args:
        target: where the files go in the end.
        overwrite: replace a folder that is there; only if it holds no other files than those written now.

    Raises:
        UserError: if ``target`` is in the way or the disk does not take the files; ``target`` is as it was before.
    """
    target = Path(target).expanduser()
    temporary = target.with_name(f".{_short(target.name)}.{os.getpid()}.tmp")
    replaced = target.with_name(f".{_short(target.name)}.{os.getpid()}.replaced")
    try:
        _check_free(target, overwrite)
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
    except UserError as error:  # of a file inside, which nobody can look at any more
        raise UserError(str(error).replace(str(temporary), str(target))) from error
    except _WRITE_ERRORS as error:
        if replaced.exists() and not target.exists():
            os.replace(replaced, target)
        raise UserError(f"{target} could not be written: {_why_not_written(error)}") from error
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


def read_text(path: str | Path, what: str) -> str:
    """Read a UTF-8 text file that somebody else may have written; a byte order mark is left out.

    Args:
        path: the file.
        what: it must be, for the error: "a classes file".

    Raises:
        UserError: if it is missing, cannot be read or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: it must be {what}") from None
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {why(error)}") from None
    except ValueError as error:
        raise UserError(f"{path} is not {what}: it is not UTF-8 text ({why(error)}): save it as UTF-8") from None


def read_json(path: str | Path, what: str) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        path: the file.
        what: it must be, for the error: "an annotation file in the COCO format".

    Raises:
        UserError: if it is missing, cannot be read, is no JSON, or is nested too deeply.
    """
    return parse_json(read_text(path, what), path, what)


def parse_json(text: str, path: str | Path, what: str) -> Any:
    """Parse the text of a JSON file; arguments and errors are those of `read_json`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{path} is not {what}: it is not valid JSON ({why(error)}): write it again, or correct it there"
        ) from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def state_of(path: Path) -> tuple[Path, int, int]:
    """Return a file, its time and its size: what is remembered of a file holds as long as this stays the same.

    Raises:
        OSError: if the file is missing.
    """
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a foreign structure is taken apart into one sentence.

    Checks inside the block should say what is wrong by a ``UserError`` of their own; this is the net below them.

    Args:
        path: the file that the structure came from.
        what: it must be, for the error.

    Raises:
        UserError: for every error of a missing key, a wrong type or a value out of range.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is not {what}: {why(error)}") from error


def _why_not_written(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return why(error)
    cause = error.__context__  # torch.save hides the disk's own error behind one of its own
    return why(cause) if isinstance(cause, OSError) else why(error)


def _short(name: str) -> str:
    """Cut a name so that a temporary one made from it is not too long for a file system."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_NAME else os.fsdecode(encoded[:_LONGEST_NAME])


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a read-only disk: nothing was written there
        pass


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: name a folder")
    if target.is_dir() and not overwrite and any(target.iterdir()):
        raise UserError(f"{printable(target)} exists and is not empty: name another folder, or give overwrite=true")
