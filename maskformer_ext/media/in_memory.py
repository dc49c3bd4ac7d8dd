"""Files that exist in memory only, for image files that came inside another one: in a table, in an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskformer_ext.errors import UserError


@contextmanager
def as_file(content: bytes, name: str) -> Iterator[Path]:
    """Yield the path of a file in memory, which every function that reads files takes.

    Args:
        content: of the file.
        name: what errors call it, instead of that path.

    Raises:
        UserError: those of the block, with the name in place of the path.
    """
    descriptor = os.memfd_create("image")
    path = Path(f"/proc/self/fd/{descriptor}")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield path
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from None
    finally:
        os.close(descriptor)
