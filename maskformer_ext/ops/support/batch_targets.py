"""What all forms of targets share: moving, padding and overwriting them, and the list of real segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from maskformer_ext.ops.support.checks import check_has_values, whole_number

_PAIRS_MULTIPLE = 64

_T = TypeVar("_T", bound="BatchTargets")


class BatchTargets:
    """The methods of ``SegmentTargets``, ``MaskTargets`` and ``BoxTargets`` that do not depend on the form."""

    labels: Tensor
    num_segments: Tensor
    _pairs: tuple[Tensor, Tensor] | None
    _per_segment: ClassVar[tuple[str, ...]]  # the fields (B, T, ...)

    def _tensor_fields(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def _map(self: _T, function: Callable[[Tensor], Tensor]) -> _T:
        moved = {name: function(value) for name, value in self._tensor_fields().items()}
        cached = None if self._pairs is None else tuple(function(index) for index in self._pairs)
        return replace(self, **moved, _pairs=cached)  # type: ignore[type-var]

    def _fields_and_pairs(self) -> dict[str, Tensor]:
        if self._pairs is None:
            raise ValueError("copy_: both must carry their pairs, as pad_to and with_pairs leave them, got none")
        return {**self._tensor_fields(), "image_index": self._pairs[0], "segment_index": self._pairs[1]}

    def to(self: _T, *args: Any, **kwargs: Any) -> _T:
        """Move every tensor, with the arguments of ``Tensor.to``; dtypes are kept."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self: _T) -> _T:
        """Copy every tensor to page-locked memory."""
        return self._map(Tensor.pin_memory)

    def pad_to(self: _T, max_segments: int, max_pairs: int) -> _T:
        """Return the same targets with room for more, so that batches with fewer segments have the same shapes.

        One CUDA graph then serves all of them (``copy_``). The pairs are listed anew, which waits for a GPU: pad on the
        host, before ``to``.

        Args:
            max_segments: T of the result.
            max_pairs: rows of ``pairs()`` of the result.

        Raises:
            TypeError: if a number is no integer.
            ValueError: if an image has more segments, or all of them together.
        """
        max_segments = whole_number("pad_to", "max_segments", max_segments)
        max_pairs = whole_number("pad_to", "max_pairs", max_pairs)
        if self.labels.shape[1] > max_segments:
            raise ValueError(f"pad_to: max_segments must be at least T = {self.labels.shape[1]}, got {max_segments}")
        image, segment = self._list_pairs(multiple=1)
        if len(image) > max_pairs:
            raise ValueError(f"pad_to: max_pairs must be at least {len(image)}, the segments here, got {max_pairs}")
        padded = {name: _pad(getattr(self, name), 1, max_segments, 0) for name in self._per_segment}
        pairs = tuple(_pad(index, 0, max_pairs, -1) for index in (image, segment))
        return replace(self, **padded, _pairs=pairs)  # type: ignore[type-var]

    def copy_(self: _T, other: _T, *, non_blocking: bool = True) -> _T:
        """Overwrite the values in place, pairs included, with those of targets of the same shapes, on any device.

        A CUDA graph that was recorded on these targets then runs on the new ones. It does not wait for a GPU where
        ``other`` is there already or in page-locked memory.

        Raises:
            TypeError: if ``other`` is of another form.
            ValueError: if a shape differs, or if either lacks its pairs.
        """
        if type(other) is not type(self):
            raise TypeError(f"copy_: other must be {type(self).__name__}, got {type(other).__name__}")
        ours, theirs = self._fields_and_pairs(), other._fields_and_pairs()
        if ours.keys() != theirs.keys():
            raise ValueError("copy_: void must be given in both or in none")
        for name, tensor in ours.items():
            if tensor.shape != theirs[name].shape:
                raise ValueError(f"copy_: {name} must be {tuple(tensor.shape)}, got {tuple(theirs[name].shape)}")
        for name, tensor in ours.items():
            tensor.copy_(theirs[name], non_blocking=non_blocking)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the labels."""
        return self.labels.device

    def with_pairs(self: _T, multiple: int = _PAIRS_MULTIPLE) -> _T:
        """Return the same targets with ``pairs()`` computed now, on the host, so that no later call waits for a GPU."""
        return replace(self, _pairs=self._list_pairs(multiple))  # type: ignore[type-var]

    def pairs(self, multiple: int = _PAIRS_MULTIPLE) -> tuple[Tensor, Tensor]:
        """List every real segment of the batch.

        The number of rows is a shape, so nothing that follows waits for the device, and one crowded image does not pad
        the others. Targets made by ``collate`` carry the list along; otherwise it is computed here.

        Args:
            multiple: the number of rows is rounded up to a multiple of this, so that few different shapes occur.

        Returns:
            ``image_index`` and ``segment_index``, both (P,) int64; -1 in the rows beyond the last segment.

        Raises:
            TypeError: if ``multiple`` is no integer.
            ValueError: if it is below 1, or the list is made here and a number of segments lies outside [0, T].
        """
        if self._pairs is not None and multiple == _PAIRS_MULTIPLE:
            return self._pairs
        return self._list_pairs(multiple)

    def known_counts(self, op: str) -> list[int]:
        """Return the numbers of segments, read on the host; raise ValueError where one lies outside [0, T]."""
        check_has_values(op, self.num_segments)
        counts, capacity = self.num_segments.tolist(), self.labels.shape[1]
        if any(not 0 <= count <= capacity for count in counts):
            raise ValueError(f"{op}: num_segments must lie in [0, T] with T = {capacity}, got {counts}")
        return counts

    def _list_pairs(self, multiple: int) -> tuple[Tensor, Tensor]:
        if whole_number("pairs", "multiple", multiple) < 1:
            raise ValueError(f"pairs: multiple must be at least 1, got {multiple}")
        counts = self.known_counts("pairs")
        rows = -(-sum(counts) // multiple) * multiple
        image_index = torch.full((rows,), -1, dtype=torch.int64)
        segment_index = torch.full((rows,), -1, dtype=torch.int64)
        start = 0
        for image, count in enumerate(counts):
            image_index[start : start + count] = image
            segment_index[start : start + count] = torch.arange(count)
            start += count
        return image_index.to(self.num_segments.device), segment_index.to(self.num_segments.device)


def _pad(tensor: Tensor, dim: int, size: int, value: int) -> Tensor:
    """Lengthen a dimension."""
    missing = list(tensor.shape)
    missing[dim] = size - missing[dim]
    return torch.cat([tensor, tensor.new_full(missing, value)], dim)
