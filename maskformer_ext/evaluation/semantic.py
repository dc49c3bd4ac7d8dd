"""Scores of semantic segmentation from one confusion matrix: mIoU, frequency-weighted IoU, class and pixel accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maskformer_ext.ops.counting import joint_histogram, to_numpy


class SemanticEvaluator:
    """Add up a confusion matrix over images.

    Args:
        num_classes: K.
        ignore_label: value of the ground truth where nothing is known; those pixels do not count.
    """

    def __init__(self, num_classes: int, ignore_label: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        # Rows: truth. Columns: prediction, the last one for predictions that are no class (void).
        self.matrix = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def update(self, prediction: ArrayLike, truth: ArrayLike) -> None:
        """Count one image.

        Args:
            prediction: (H, W) integer class ids; values outside [0, K) count as wrong.
            truth: (H, W) integer class ids or ``ignore_label``.

        Raises:
            ValueError: if the maps differ in size, or ``truth`` holds what is neither a class nor ``ignore_label``.
        """
        predicted, true = to_numpy(prediction), to_numpy(truth)
        if predicted.shape != true.shape:
            raise ValueError(
                f"SemanticEvaluator: prediction must have the size of truth, {true.shape}, got {predicted.shape}"
            )
        known = true != self.ignore_label
        predicted, true = predicted[known], true[known]
        if true.size and (true.min() < 0 or true.max() >= self.num_classes):
            raise ValueError(
                f"SemanticEvaluator: truth must hold classes in [0, {self.num_classes}) or {self.ignore_label}, "
                f"got values from {true.min()} to {true.max()}"
            )
        valid = (predicted >= 0) & (predicted < self.num_classes)
        predicted = predicted if valid.all() else np.where(valid, predicted, self.num_classes)
        self.matrix += joint_histogram(true, predicted, self.num_classes, self.num_classes + 1)

    def state(self) -> dict[str, Any]:
        """Return what has been counted, to be sent to another process."""
        return {"matrix": self.matrix}

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process counted."""
        self.matrix = self.matrix + state["matrix"]

    def compute(self) -> dict[str, Any]:
        """Return the scores, all in 0..1.

        Returns:
            NaN where nothing was counted, and otherwise:

            - ``mIoU``: mean over the classes that occur in truth or prediction.
            - ``fwIoU``: weighted by the pixels of each class in the truth.
            - ``mACC``: mean recall over the classes in the truth.
            - ``pACC``: share of correct pixels.
            - ``per_class``: lists ``IoU``, ``ACC`` (NaN for classes that do not occur) and ``pixels`` of the truth.
        """
        correct = np.diag(self.matrix[:, : self.num_classes]).astype(np.float64)
        in_truth = self.matrix.sum(1).astype(np.float64)
        in_prediction = self.matrix[:, : self.num_classes].sum(0).astype(np.float64)
        union = in_truth + in_prediction - correct
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = correct / union
            accuracy = correct / in_truth
            frequency = in_truth / in_truth.sum()
        return {
            "mIoU": _mean(iou[union > 0]),
            "fwIoU": float((frequency * iou)[in_truth > 0].sum()) if in_truth.any() else float("nan"),
            "mACC": _mean(accuracy[in_truth > 0]),
            "pACC": float(correct.sum() / in_truth.sum()) if in_truth.any() else float("nan"),
            "per_class": {"IoU": iou.tolist(), "ACC": accuracy.tolist(), "pixels": in_truth.astype(np.int64).tolist()},
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
