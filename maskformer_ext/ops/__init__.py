"""The drop-in ops: torch and numpy are all they need."""

from maskformer_ext.ops.attention_mask import attention_mask
from maskformer_ext.ops.counting import joint_histogram, pair_areas
from maskformer_ext.ops.dice_loss import dice_loss
from maskformer_ext.ops.instance_inference import Instances, instance_inference
from maskformer_ext.ops.linear_sum_assignment import linear_sum_assignment
from maskformer_ext.ops.mask_dot import mask_dot
from maskformer_ext.ops.mask_loss import mask_loss
from maskformer_ext.ops.matched_mask_loss import matched_mask_loss
from maskformer_ext.ops.matching_cost import matching_cost
from maskformer_ext.ops.matching_cost_from_embeddings import matching_cost_from_embeddings
from maskformer_ext.ops.pair_dot import pair_dot
from maskformer_ext.ops.panoptic_inference import panoptic_inference
from maskformer_ext.ops.point_mask_loss import point_mask_loss
from maskformer_ext.ops.point_matching_cost import point_matching_cost
from maskformer_ext.ops.point_matching_cost_from_embeddings import point_matching_cost_from_embeddings
from maskformer_ext.ops.semantic_inference import semantic_inference, semantic_scores
from maskformer_ext.ops.sigmoid_focal_loss import sigmoid_focal_loss
from maskformer_ext.ops.targets import VOID, MaskTargets, SegmentTargets
from maskformer_ext.ops.uncertain_points import uncertain_points

__all__ = [
    "VOID",
    "Instances",
    "MaskTargets",
    "SegmentTargets",
    "attention_mask",
    "dice_loss",
    "instance_inference",
    "joint_histogram",
    "linear_sum_assignment",
    "mask_dot",
    "mask_loss",
    "matched_mask_loss",
    "matching_cost",
    "matching_cost_from_embeddings",
    "pair_areas",
    "pair_dot",
    "panoptic_inference",
    "point_mask_loss",
    "point_matching_cost",
    "point_matching_cost_from_embeddings",
    "semantic_inference",
    "semantic_scores",
    "sigmoid_focal_loss",
    "uncertain_points",
]
