"""What `segment` returns for an image, as objects that draw, save and convert themselves.

- kinds.py has the three results; base.py what they share; segment_view.py one segment of one.
- context.py holds what `segment` attaches: the classes, the image, and times.py how long it took.
- drawing.py makes overlays, saving.py the files that `predict` writes too, showing.py the texts and pages, summary.py
  what was found in a few words.
- formats.py turns results into COCO, YOLO and supervision, with the polygons of outlines.py.
"""

from maskformer_ext.inference.results.base import Result
from maskformer_ext.inference.results.context import PICTURED_SCORE, Context
from maskformer_ext.inference.results.kinds import (
    InstanceResult,
    PanopticResult,
    SemanticResult,
    as_result,
    segments_of,
)
from maskformer_ext.inference.results.segment_view import Segment
from maskformer_ext.inference.results.times import Times

__all__ = [
    "PICTURED_SCORE",
    "Context",
    "InstanceResult",
    "PanopticResult",
    "Result",
    "Segment",
    "SemanticResult",
    "Times",
    "as_result",
    "segments_of",
]
