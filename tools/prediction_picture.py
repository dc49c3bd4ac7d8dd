"""Draw images, truths and predictions of a trained model as one small SVG file, as in the README.

Usage: python tools/prediction_picture.py RUN_FOLDER docs/predictions.svg 3 11 42
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

from maskformer_ext.checkpoints.models import load_checkpoint
from maskformer_ext.data.build import build_dataset
from maskformer_ext.engine.report_pictures import embed
from maskformer_ext.inference import segment
from maskformer_ext.inference.results import segments_of
from maskformer_ext.pictures.segments import draw_segments

_SIDE, _GAP, _MARGIN = 180, 6, 92


def main(run: str, output: str, indices: list[int]) -> None:
    """Write the picture of these validation images."""
    model, config, info = load_checkpoint(run, "cpu")
    dataset = build_dataset(config.data, "val")
    rows: list[list[Image.Image]] = [[], [], []]
    for index in indices:
        sample = dataset[index]
        image = sample.image.permute(1, 2, 0).numpy()
        result = segment(
            model, sample.image, task="panoptic", thing_classes=info.thing_classes, config=config.inference
        )
        owners, labels = segments_of(result)
        rows[0].append(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
        for row, (segment_map, names) in zip(
            rows[1:], ((sample.segment_map.numpy(), sample.labels.tolist()), (owners, labels)), strict=True
        ):
            drawn = draw_segments(image, segment_map, names, info, short_side=384, name_size=0.06)
            row.append(drawn.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
    width = _MARGIN + len(indices) * (_SIDE + _GAP)
    height = 3 * (_SIDE + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    ]
    for y, (name, row) in enumerate(zip(("image", "truth", "prediction"), rows, strict=True)):
        top = y * (_SIDE + _GAP)
        parts.append(
            f'<text x="{_MARGIN - 10}" y="{top + _SIDE / 2}" text-anchor="end" font-family="sans-serif" font-size="14" '
            f'fill="#808080">{escape(name)}</text>'
        )
        for x, picture in enumerate(row):
            left = _MARGIN + x * (_SIDE + _GAP)
            parts.append(f'<image x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" href="{embed(picture)}"/>')
    Path(output).write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(index) for index in sys.argv[3:]])
