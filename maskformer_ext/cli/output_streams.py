"""Standard output and error that take every text, and do not stop a command when nobody reads them any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patient_output() -> Iterator[PatientStream]:
    """Let the block print whatever happens to its output: a closed pipe, a full disk, no stream, a small alphabet.

    What cannot be shown in the encoding of the terminal is written as escapes. Yields the standard output.
    """
    before = sys.stdout, sys.stderr
    output, errors = PatientStream(before[0]), PatientStream(before[1])
    sys.stdout, sys.stderr = output, errors  # all that is used of a text file
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


class PatientStream:
    """Passes everything on to a stream until writing fails; what comes later is dropped.

    Args:
        stream: a text file; None where the process was started without one.

    Attributes:
        problem: why writing failed; None where it did not, or where the reader of a pipe has seen enough.
    """

    problem: Exception | None = None

    def __init__(self, stream: Any) -> None:
        self._nowhere = None if stream is not None else open(os.devnull, "w", encoding="utf-8")
        self._stream: Any = stream if stream is not None else self._nowhere
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text, as far as that goes."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self._stream.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError) as error:  # a broken pipe, a full disk; a closed file
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Write what waits, as far as that goes."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: Exception) -> None:
        """Lead the stream to nowhere, so that what waits in it is not tried again when the process ends."""
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.problem = self.problem or error
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # no file of the system
            pass
