"""The drop-in ops: torch and numpy are all they need."""

from maskformer_ext.ops.dice_loss import dice_loss
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.mask_loss import mask_loss
from maskformer_ext.ops.matched_mask_loss import matched_mask_loss
from maskformer_ext.ops.sigmoid_focal_loss import sigmoid_focal_loss
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets

__all__ = [
    "VOID",
    "MaskTargets",
    "SegmentTargets",
    "dice_loss",
    "linear_sum_assignment",
    "mask_loss",
    "matched_mask_loss",
    "sigmoid_focal_loss",
]
