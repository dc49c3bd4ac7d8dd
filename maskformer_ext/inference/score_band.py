"""Average the class scores of tiles a band of rows at a time: memory follows a tile's height, not the image's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from maskformer_ext.inference.tiles import Tile, edge_distance


class ScoreBand:
    """Take the scores of tiles row by row of tiles, and hand on each row of pixels once no later tile touches it.

    A pixel weighs more the farther it is from its tile's cuts. The averages are resized bilinearly on the way out.

    Args:
        extent: height h and width w of the image that the tiles cover.
        size: height H and width W of the result.
        reduce: what becomes of finished rows: maps (K, n, W) float32 to a tensor whose last two dimensions are (n, W).
    """

    def __init__(self, extent: tuple[int, int], size: tuple[int, int], reduce: Callable[[Tensor], Tensor]) -> None:
        self.extent, self.size = extent, (int(size[0]), int(size[1]))
        self._reduce = reduce
        self._finished: list[Tensor] = []
        self._top = 0  # of the band: the sums of rows that tiles may still add to
        self._scores: Tensor = torch.zeros(())
        self._weights: Tensor = torch.zeros(())
        self._first = 0  # of the averaged rows that wait to be resized
        self._waiting: Tensor = torch.zeros(())
        # as torch's interpolate: each row of the result lies between two rows of the image
        height, rows = extent[0], self.size[0]
        position = ((torch.arange(rows, dtype=torch.float64) + 0.5) * height / rows - 0.5).clamp(min=0)
        self._low = position.long().clamp(max=height - 1)
        self._high = (self._low + 1).clamp(max=height - 1)
        self._share = (position - self._low).float()
        self._next = 0  # row of the result

    def add(self, scores: Tensor, tile: Tile) -> None:
        """Add the scores (K, th, tw) of a tile, which lies at the height of the one before or below it."""
        if self._scores.dim() == 0:
            self._scores = scores.new_zeros((scores.shape[0], tile.bottom - tile.top, self.extent[1]))
            self._weights = scores.new_zeros((tile.bottom - tile.top, self.extent[1]))
            self._waiting = scores.new_zeros((scores.shape[0], 0, self.extent[1]))
        if tile.top > self._top:
            self._pass_on(tile.top - self._top)
        weight = torch.from_numpy(edge_distance(tile, *self.extent)).to(scores.device)
        self._scores[:, :, tile.columns].addcmul_(scores, weight)
        self._weights[:, tile.columns] += weight

    def result(self) -> Tensor:
        """Return the reduced rows of the whole image, after its last tile."""
        self._pass_on(self._scores.shape[1])
        return torch.cat(self._finished, dim=-2)

    def _pass_on(self, count: int) -> None:
        """Average the first rows of the band, resize what can be, and move the band down."""
        done = self._scores[:, :count] / self._weights[:count]
        self._waiting = torch.cat([self._waiting, done], dim=1) if self._waiting.shape[1] else done
        for sums, dim in ((self._scores, 1), (self._weights, 0)):
            kept = sums.narrow(dim, count, sums.shape[dim] - count).clone()
            sums.zero_().narrow(dim, 0, kept.shape[dim]).copy_(kept)
        self._top += count
        end = int(torch.searchsorted(self._high, self._first + self._waiting.shape[1]))
        if end > self._next:
            self._finished.append(self._reduce(self._resized(slice(self._next, end))))
            self._next = end
        needed = int(self._low[end]) if end < len(self._low) else self._top
        skipped = min(max(needed - self._first, 0), self._waiting.shape[1])
        self._waiting, self._first = self._waiting[:, skipped:].clone(), self._first + skipped

    def _resized(self, rows: slice) -> Tensor:
        device = self._waiting.device
        low, high = ((side[rows] - self._first).to(device) for side in (self._low, self._high))
        if self.extent == self.size:
            return self._waiting[:, int(low[0]) : int(low[-1]) + 1]
        share = self._share[rows, None].to(device)
        block = torch.lerp(self._waiting.index_select(1, low), self._waiting.index_select(1, high), share)
        return F.interpolate(block[None], (block.shape[1], self.size[1]), mode="bilinear", align_corners=False)[0]
