"""The drop-in ops: torch and numpy are all they need."""

from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets

__all__ = [
    "VOID",
    "MaskTargets",
    "SegmentTargets",
    "linear_sum_assignment",
]
