"""Maps of which only a band of rows exists at a time: the references of the inference ops stream over these."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.ops.support.library import without_autocast

# Elements of the largest band: small enough to stay in the last-level cache, large enough that call overheads vanish.
_BAND_ELEMENTS = 1 << 20


class Rows(Protocol):
    """A (N, height, width) map whose rows are computed when asked for."""

    @property
    def channels(self) -> int:
        """N."""

    @property
    def height(self) -> int:
        """Number of rows."""

    @property
    def width(self) -> int:
        """Number of columns."""

    def rows(self, begin: int, end: int) -> Tensor:
        """Compute rows begin to end, (N, end - begin, width)."""

    def cost_of_row(self) -> float:
        """Return the number of elements of the largest intermediate that one row needs."""


@dataclass(frozen=True)
class Stored:
    """Rows of a tensor (N, h, w), converted to float32 (float64 stays) where they are read."""

    values: Tensor

    @property
    def channels(self) -> int:
        return self.values.shape[0]

    @property
    def height(self) -> int:
        return self.values.shape[1]

    @property
    def width(self) -> int:
        return self.values.shape[2]

    def rows(self, begin: int, end: int) -> Tensor:
        band = self.values[:, begin:end]
        return band if band.dtype == torch.float64 else band.float()

    def cost_of_row(self) -> float:
        return self.channels * self.width


@dataclass(frozen=True)
class Cropped:
    """The top left part of a map."""

    source: Rows
    height: int
    width: int

    @property
    def channels(self) -> int:
        return self.source.channels

    def rows(self, begin: int, end: int) -> Tensor:
        return self.source.rows(begin, end)[..., : self.width]

    def cost_of_row(self) -> float:
        return self.source.cost_of_row()


@dataclass(frozen=True)
class Mapped:
    """A function of each pixel's channels: (N, r, w) -> (channels, r, w)."""

    source: Rows
    channels: int
    function: Callable[[Tensor], Tensor]

    @property
    def height(self) -> int:
        return self.source.height

    @property
    def width(self) -> int:
        return self.source.width

    def rows(self, begin: int, end: int) -> Tensor:
        return self.function(self.source.rows(begin, end))

    def cost_of_row(self) -> float:
        return max(self.source.cost_of_row(), self.channels * self.width)


@dataclass(frozen=True)
class Bilinear:
    """The bilinear resize (align_corners=False) of a map, as ``interpolate`` gives it; optionally mirrored."""

    source: Rows
    height: int
    width: int
    flip: bool = False

    @property
    def channels(self) -> int:
        return self.source.channels

    def rows(self, begin: int, end: int) -> Tensor:
        if self.height == self.source.height:
            return self._resize_columns(self.source.rows(begin, end))
        low, high, weight = bilinear_taps(self.source.height, self.height, begin, end)
        first, last = int(low[0]), int(high[-1])
        # Columns first: when enlarging, there are fewer rows before the vertical step than after it.
        band = self._resize_columns(self.source.rows(first, last + 1))
        matrix = torch.zeros(end - begin, last + 1 - first)  # a batched product is the quickest way to blend rows
        row = torch.arange(end - begin)
        matrix[row, low - first] = 1 - weight
        matrix[row, high - first] += weight
        with without_autocast(band):
            return torch.matmul(matrix.to(band), band)

    def _resize_columns(self, band: Tensor) -> Tensor:
        if self.width != self.source.width:
            size = (band.shape[1], self.width)
            band = F.interpolate(band.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0]
        return band.flip(-1) if self.flip else band

    def cost_of_row(self) -> float:
        enlarged = max(1.0, self.source.height / max(1, self.height))
        return max(self.channels * self.width, enlarged * self.source.cost_of_row())


def bilinear_taps(in_size: int, out_size: int, begin: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return lower index, upper index and weight of the upper one for output positions begin to end, as ATen does."""
    scale = torch.tensor(in_size, dtype=torch.float32) / out_size
    position = (scale * (torch.arange(begin, end) + 0.5) - 0.5).clamp(min=0)
    low = position.floor().long().clamp(max=in_size - 1)
    weight = (position - low).clamp(0, 1)
    return low, (low + 1).clamp(max=in_size - 1), weight


def resized(
    source: Rows,
    size: Sequence[int],
    *,
    input_size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    flip: bool = False,
    between: Callable[[Rows], Rows] | None = None,
) -> Rows:
    """Compose the resizes of inference.

    Args:
        source: a map at prediction size.
        size: output (H, W).
        input_size: the padded network input (H, W), resized to first.
        crop: the valid (H, W) of it.
        flip: mirror the result.
        between: applied after the first resize and crop, before the last resize.
    """
    if input_size is not None:
        source = Bilinear(source, input_size[0], input_size[1])
    if crop is not None:
        source = Cropped(source, crop[0], crop[1])
    if between is not None:
        source = between(source)
    return Bilinear(source, size[0], size[1], flip=flip)


def bands(source: Rows, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (begin, end, rows begin to end) of rows first to last, from top to bottom, in bands of bounded size."""
    step = max(1, int(_BAND_ELEMENTS / max(1.0, source.cost_of_row())))
    last = source.height if last is None else last
    for begin in range(first, last, step):
        end = min(begin + step, last)
        yield begin, end, source.rows(begin, end)


def first_argmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum over the first axis and the lowest index that reaches it (int64).

    Three vectorised passes; ``argmax`` over a strided axis is several times slower on the CPU.
    """
    best = scores.amax(0)
    count = scores.shape[0]
    dtype = torch.int16 if count < 1 << 15 else torch.int32
    rank = torch.arange(count, 0, -1, dtype=dtype, device=scores.device).view(-1, *[1] * best.dim())
    return best, count - ((scores == best) * rank).amax(0).long()
