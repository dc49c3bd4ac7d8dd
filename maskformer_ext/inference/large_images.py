"""Segment an image that is larger than a tile: run the tiles, join their results, bring them to the wanted size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from maskformer_ext.inference.network import batch_of, run_network
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.inference.reduction import Reducer
from maskformer_ext.inference.results import InstanceResult, PanopticResult, Result, SemanticResult
from maskformer_ext.inference.results.times import Laps
from maskformer_ext.inference.score_band import ScoreBand
from maskformer_ext.inference.stitching import Piece, cut_piece, stitch_instances, stitch_panoptic
from maskformer_ext.inference.tiles import Tile, make_tiles


def segment_tiles(
    model: nn.Module, pixels: Tensor, size: tuple[int, int], reduce: Reducer, batch_size: int, laps: Laps
) -> dict[str, Result]:
    """Segment one image in overlapping tiles.

    Semantic scores are averaged, with less weight near a tile's cuts; things that two tiles see are joined. ``top_k``
    counts in each tile.

    Args:
        model: the network.
        pixels: (3, h, w) uint8, after the resize of test time.
        size: height and width of the result.
        reduce: which tasks, and their thresholds; ``reduce.settings.tile`` is the side of a tile.
        batch_size: how many tiles go through the network at once.
        laps: the times before it.

    Returns:
        The result of each task.
    """
    height, width = pixels.shape[-2:]
    tiles = make_tiles(height, width, reduce.settings.tile)
    outputs = run_tiles(model, pixels, tiles, batch_size, laps, reduce.settings.precision)
    return join_tiles(outputs, tiles, (height, width), size, reduce, laps)


def join_tiles(
    outputs: Iterable[tuple[Tile, QueryOutput]],
    tiles: list[Tile],
    shape: tuple[int, int],
    size: tuple[int, int],
    reduce: Reducer,
    laps: Laps,
) -> dict[str, Result]:
    """Reduce the network's output for every tile and join the results.

    Args:
        outputs: of each tile, in the order of ``tiles``; they are taken one at a time.
        tiles: of the image.
        shape: height and width of the image that was cut.
        size: height and width of the result.
        reduce: which tasks, and their thresholds.
        laps: the times before it.

    Returns:
        The result of each task.
    """
    begin = laps.mark()
    height, width = shape
    classes = ScoreBand((height, width), size, lambda rows: rows.argmax(0))
    panoptic: list[PanopticResult] = []
    pieces: list[list[Piece]] = []
    things: tuple[int, ...] = ()
    for tile, output in outputs:
        extent = output.crop
        if "semantic" in reduce.tasks:
            classes.add(reduce.scores(output, extent), tile)
        if "panoptic" in reduce.tasks:
            panoptic.append(reduce.panoptic(output, extent))
            things = reduce.things(output)
        if "instance" in reduce.tasks:
            pieces.append(_pieces(reduce, output, tile))
    results: dict[str, Result] = {}
    for task in reduce.tasks:
        if task == "semantic":
            results[task] = SemanticResult(classes.result())
        elif task == "panoptic":
            results[task] = _join_panoptic(panoptic, tiles, (height, width), size, things)
        else:
            results[task] = _pack(stitch_instances(pieces, tiles), (height, width), size)
    laps.add_around_network(begin)
    return {task: result.with_context(times=laps) for task, result in results.items()}


def tile_scores(
    model: nn.Module, pixels: Tensor, size: tuple[int, int], reduce: Reducer, batch_size: int, laps: Laps
) -> Tensor:
    """Return the class scores (K, H, W) of an image, averaged over tiles; arguments as `segment_tiles`'s."""
    height, width = pixels.shape[-2:]
    scores = ScoreBand((height, width), size, lambda rows: rows)
    tiles = make_tiles(height, width, reduce.settings.tile)
    for tile, output in run_tiles(model, pixels, tiles, batch_size, laps, reduce.settings.precision):
        scores.add(reduce.scores(output, output.crop), tile)
    return scores.result()


def run_tiles(
    model: nn.Module, pixels: Tensor, tiles: list[Tile], batch_size: int, laps: Laps, precision: str
) -> Iterator[tuple[Tile, QueryOutput]]:
    """Yield each tile of an image (3, h, w) uint8 with the network's output for it, ``batch_size`` at a time."""
    for start in range(0, len(tiles), batch_size):
        chosen = tiles[start : start + batch_size]
        images = batch_of([pixels[:, tile.rows, tile.columns] for tile in chosen])
        outputs = run_network(model, images, [laps], precision=precision)
        yield from zip(chosen, outputs, strict=True)


def _join_panoptic(
    results: list[PanopticResult],
    tiles: list[Tile],
    extent: tuple[int, int],
    size: tuple[int, int],
    things: tuple[int, ...],
) -> PanopticResult:
    maps = [result.segment_map.cpu().numpy() for result in results]
    joined, infos = stitch_panoptic(maps, [result.segments_info for result in results], tiles, extent, things)
    if extent != tuple(size):
        joined = joined[np.ix_(*_nearest(extent, size))]
        areas = np.bincount(joined.reshape(-1), minlength=len(infos) + 1)
        infos = [{**info, "area": int(areas[info["id"]])} for info in infos if areas[info["id"]]]
    return PanopticResult(torch.from_numpy(np.ascontiguousarray(joined)), infos)


def _nearest(extent: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source row of each output row, and the same for columns, between pixel centres."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for old, new in zip(extent, size, strict=True)
    )
    return rows, columns


def _pieces(reduce: Reducer, output: QueryOutput, tile: Tile) -> list[Piece]:
    found = reduce.instance(output, output.crop)
    rows = zip(found.masks.cpu().numpy(), found.labels.tolist(), found.scores.tolist(), strict=True)
    cut = (cut_piece(mask, label, score, tile) for mask, label, score in rows)
    return [piece for piece in cut if piece is not None]


def _pack(pieces: list[Piece], extent: tuple[int, int], size: tuple[int, int]) -> InstanceResult:
    """Return instances of the whole image, eight pixels per byte."""
    whole = Tile(0, 0, *extent)
    sources = None if extent == tuple(size) else np.ix_(*_nearest(extent, size))
    kept, boxes, packed = [], [], []
    for piece in pieces:
        mask = piece.inside(whole) if sources is None else piece.inside(whole)[sources]
        cut = cut_piece(mask, piece.label, piece.score, Tile(0, 0, *size))
        if cut is not None:
            kept.append(piece)
            boxes.append((cut.left, cut.top, cut.left + cut.mask.shape[1], cut.top + cut.mask.shape[0]))
            packed.append(np.packbits(mask, axis=-1, bitorder="little"))
    masks = np.stack(packed) if packed else np.zeros((0, size[0], (size[1] + 7) // 8), dtype=np.uint8)
    return InstanceResult(
        torch.tensor([piece.score for piece in kept], dtype=torch.float32),
        torch.tensor([piece.label for piece in kept], dtype=torch.int64),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.from_numpy(masks),
        (int(size[0]), int(size[1])),
    )
