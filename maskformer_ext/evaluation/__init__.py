"""Scores of predictions: mIoU, panoptic quality, average precision; and a run of a model over a data set."""

from maskformer_ext.evaluation.instance import InstanceEvaluator
from maskformer_ext.evaluation.panoptic import PanopticEvaluator, RegionEvaluator
from maskformer_ext.evaluation.semantic import SemanticEvaluator

__all__ = ["InstanceEvaluator", "PanopticEvaluator", "RegionEvaluator", "SemanticEvaluator"]
