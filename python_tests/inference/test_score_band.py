"""Averages of tiles, a band of rows at a time, against the same with everything in memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskformer_ext.inference.score_band import ScoreBand
from maskformer_ext.inference.tiles import edge_distance, make_tiles

sides = st.integers(1, 60)


def _average(scores: list[torch.Tensor], tiles, extent, size) -> torch.Tensor:
    total, weights = torch.zeros(len(scores[0]), *extent), torch.zeros(extent)
    for score, tile in zip(scores, tiles, strict=True):
        weight = torch.from_numpy(edge_distance(tile, *extent))
        total[:, tile.rows, tile.columns] += score * weight
        weights[tile.rows, tile.columns] += weight
    return F.interpolate((total / weights)[None], size, mode="bilinear", align_corners=False)[0]


@settings(max_examples=150, deadline=None)
@given(extent=st.tuples(sides, sides), size=st.tuples(sides, sides), side=st.integers(1, 40), equal=st.booleans())
def test_rows_are_those_of_the_whole(extent: tuple[int, int], size: tuple[int, int], side: int, equal: bool) -> None:
    size = extent if equal else size
    torch.manual_seed(0)
    tiles = make_tiles(*extent, side)
    scores = [torch.rand(3, tile.bottom - tile.top, tile.right - tile.left) for tile in tiles]
    band = ScoreBand(extent, size, lambda rows: rows)
    for score, tile in zip(scores, tiles, strict=True):
        band.add(score, tile)
    torch.testing.assert_close(band.result(), _average(scores, tiles, extent, size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(400, 30), (900, 30), (100, 30)])
def test_no_more_rows_are_held_than_a_tile_has(size: tuple[int, int]) -> None:
    seen = []

    def labels(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.shape[1])
        return rows.argmax(0)

    band = ScoreBand((400, 30), size, labels)
    for tile in make_tiles(400, 30, 32):
        band.add(torch.rand(2, 32, tile.right - tile.left), tile)
        assert band._scores.shape == (2, 32, 30) and band._waiting.shape[1] <= 8
    assert band.result().shape == size
    assert sum(seen) == size[0] and max(seen) <= 33 * max(1, -(-size[0] // 400))
