"""From images to their segmentation: `segment`, and what it is made of.

- run.py cuts the work into runs of the network.
- network.py normalises, pads and runs the network; reduction.py makes results/ of its output.
- large_images.py cuts an image into tiles.py; stitching.py and score_band.py join their results.
- views.py averages test-time augmentations.
- weight_warnings.py warns about weights that are untrained or not finite.
- query_output.py is what a network says of an image.
- programs/ traces network and reduction for `export`, and runs what it wrote; analysis.py counts for `analyze`.
"""

from maskformer_ext.config.tasks import TASKS
from maskformer_ext.inference.programs.exported_model import ExportedModel
from maskformer_ext.inference.results import InstanceResult, PanopticResult, Result, Segment, SemanticResult
from maskformer_ext.inference.run import segment, segment_tasks
from maskformer_ext.ops.instance_inference import Instances

__all__ = [
    "TASKS",
    "ExportedModel",
    "InstanceResult",
    "Instances",
    "PanopticResult",
    "Result",
    "Segment",
    "SemanticResult",
    "segment",
    "segment_tasks",
]
