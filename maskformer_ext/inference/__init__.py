"""From images to their segmentation: `segment`, and what it is made of.

run.py cuts the work into runs of the network; prediction.py reduces its output; tiled.py, tiling.py, stitching.py and
score_band.py take large images in tiles; views.py averages test-time augmentations.
"""

from maskformer_ext.config.tasks import TASKS
from maskformer_ext.inference.prediction import Instances, PanopticResult, SemanticResult
from maskformer_ext.inference.run import segment, segment_tasks

__all__ = ["TASKS", "Instances", "PanopticResult", "SemanticResult", "segment", "segment_tasks"]
