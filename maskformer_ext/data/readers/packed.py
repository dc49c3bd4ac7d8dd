"""A list of small records in one buffer, so that worker processes share it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np


class PackedList:
    """A read-only list of JSON values.

    A hundred thousand Python objects are copied into every worker as soon as it counts references to them. One array of
    bytes stays shared for good.

    Args:
        records: anything that JSON can hold; tuples come back as lists.
    """

    def __init__(self, records: Iterable[Any]) -> None:
        buffer, ends = bytearray(), [0]
        for record in records:
            buffer += json.dumps(record, separators=(",", ":")).encode()
            ends.append(len(buffer))
        self._bytes, self._ends = np.frombuffer(bytes(buffer), np.uint8), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return json.loads(self._bytes[self._ends[index] : self._ends[index + 1]].tobytes())
