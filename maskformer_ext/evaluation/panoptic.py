"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", equation 1) from intersections of segments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maskformer_ext.ops.counting import pair_areas, to_numpy

MATCH_IOU = 0.5
"""Segments of one class whose IoU is above this are a match; at most one partner can be."""

VOID_SHARE = 0.5
"""A prediction without a match whose share of void, or of a crowd of its class, is above this is no false positive."""


class PanopticEvaluator:
    """Add up matches and misses of segments over images.

    Args:
        num_classes: K.
        thing_classes: ids of the classes that count as things; all others are stuff.
    """

    def __init__(self, num_classes: int, thing_classes: Collection[int]) -> None:
        self.num_classes = num_classes
        self.thing_classes = frozenset(thing_classes)
        self.iou_sum = np.zeros(num_classes, dtype=np.float64)
        # Columns: true positives, false positives, false negatives.
        self.counts = np.zeros((num_classes, 3), dtype=np.int64)

    def update(
        self,
        prediction: ArrayLike,
        segments_info: Sequence[Mapping[str, Any]],
        segment_map: ArrayLike,
        labels: ArrayLike,
        crowd: ArrayLike | None = None,
    ) -> None:
        """Count one image.

        Args:
            prediction: (H, W) integer segment ids, 0 = void.
            segments_info: ``id`` and ``category_id`` of every id in ``prediction``.
            segment_map: (H, W) integer indices into ``labels``, -1 = void.
            labels: (T,) class id of each true segment.
            crowd: (T,) bool, the segments that are a crowd of their class: nothing has to find them, and predictions of
                their class may lie on them. None: there are no crowds.

        Raises:
            ValueError: if the maps differ in size, or hold an id or a class that does not exist.
        """
        prediction, truth, labels = to_numpy(prediction), to_numpy(segment_map), to_numpy(labels).astype(np.int64)
        if prediction.shape != truth.shape:
            raise ValueError(
                f"PanopticEvaluator: prediction must have segment_map's size, {truth.shape}, got {prediction.shape}"
            )
        ids = np.array([segment["id"] for segment in segments_info], dtype=np.int64)
        classes = np.array([segment["category_id"] for segment in segments_info], dtype=np.int64)
        for name, values in (("labels", labels), ("category_id", classes)):
            if values.size and (values.min() < 0 or values.max() >= self.num_classes):
                raise ValueError(f"PanopticEvaluator: {name} must be in [0, {self.num_classes}), got {values.tolist()}")
        crowd = np.zeros(len(labels), dtype=bool) if crowd is None else to_numpy(crowd).astype(bool)
        if crowd.shape != labels.shape:
            raise ValueError(f"PanopticEvaluator: crowd must be (T,) as labels, {labels.shape}, got {crowd.shape}")
        self.count(_intersections(prediction, ids, truth, len(labels)), classes, labels, crowd)

    def count(self, area: np.ndarray, classes: np.ndarray, labels: np.ndarray, crowd: np.ndarray | None = None) -> None:
        """Count one image, given the pixels (1 + predictions, 1 + truths) that each pair shares; index 0 is void."""
        crowd = np.zeros(len(labels), dtype=bool) if crowd is None else crowd
        predicted, true = area.sum(1)[1:], area.sum(0)[1:]
        shared, on_void = area[1:, 1:], area[1:, 0]
        same_class = classes[:, None] == labels[None, :]
        union = predicted[:, None] + true[None, :] - shared - on_void[:, None]
        iou = shared / np.maximum(union, 1)
        rows, columns = np.nonzero((iou > MATCH_IOU) & same_class & ~crowd)
        np.add.at(self.iou_sum, labels[columns], iou[rows, columns])
        np.add.at(self.counts[:, 0], labels[columns], 1)

        unmatched = predicted > 0
        unmatched[rows] = False
        on_crowd = (shared * (same_class & crowd)).sum(1)
        unmatched &= on_void + on_crowd <= VOID_SHARE * predicted
        np.add.at(self.counts[:, 1], classes[unmatched], 1)

        missed = (true > 0) & ~crowd
        missed[columns] = False
        np.add.at(self.counts[:, 2], labels[missed], 1)

    def state(self) -> dict[str, Any]:
        """Return what has been counted, to be sent to another process."""
        return {"iou_sum": self.iou_sum, "counts": self.counts}

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process counted."""
        self.iou_sum = self.iou_sum + state["iou_sum"]
        self.counts = self.counts + state["counts"]

    def compute(self) -> dict[str, Any]:
        """Return the scores, all in 0..1.

        Returns:
            - ``PQ``, ``SQ``, ``RQ``: means over the classes that occur in truth or prediction.
            - The same with suffix ``_things`` and ``_stuff``, where such classes occur.
            - ``per_class``: lists ``PQ``, ``SQ``, ``RQ`` (NaN for classes that do not occur), ``TP``, ``FP``, ``FN``.
        """
        tp, fp, fn = self.counts.T.astype(np.float64)
        present = self.counts.sum(1) > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            sq = np.where(present, self.iou_sum / np.maximum(tp, 1), np.nan)
            rq = tp / (tp + 0.5 * fp + 0.5 * fn)
            pq = self.iou_sum / (tp + 0.5 * fp + 0.5 * fn)
        is_thing = np.array([index in self.thing_classes for index in range(self.num_classes)], dtype=bool)
        result: dict[str, Any] = {}
        for suffix, chosen in (("", present), ("_things", present & is_thing), ("_stuff", present & ~is_thing)):
            if suffix and not chosen.any():
                continue
            for name, values in (("PQ", pq), ("SQ", sq), ("RQ", rq)):
                result[name + suffix] = float(values[chosen].mean()) if chosen.any() else float("nan")
        counts = {name: self.counts[:, column].tolist() for column, name in enumerate(("TP", "FP", "FN"))}
        result["per_class"] = {"PQ": pq.tolist(), "SQ": sq.tolist(), "RQ": rq.tolist(), **counts}
        return result


def _intersections(prediction: np.ndarray, ids: np.ndarray, truth: np.ndarray, num_true: int) -> np.ndarray:
    """Return the shared pixels (1 + P, 1 + T) of predicted and true segments; row and column 0 are void."""
    if len(np.unique(ids)) != len(ids) or (ids <= 0).any():
        raise ValueError(f"PanopticEvaluator: ids in segments_info must be positive and different, got {ids.tolist()}")
    predicted, true, areas = pair_areas(prediction, truth)
    if (predicted < 0).any() or (true < -1).any() or (true >= num_true).any():
        raise ValueError(
            f"PanopticEvaluator: prediction must hold ids >= 0 and segment_map indices in [-1, {num_true}), "
            f"got from {predicted.min()}, and [{true.min()}, {true.max()}]"
        )
    row_of = {0: 0, **{int(i): row for row, i in enumerate(ids, start=1)}}
    unknown = [i for i in dict.fromkeys(predicted.tolist()) if i not in row_of]
    if unknown:
        raise ValueError(f"PanopticEvaluator: prediction holds ids that segments_info does not list: {unknown[:5]}")
    shared = np.zeros((1 + len(ids), 1 + num_true), dtype=np.int64)
    shared[[row_of[i] for i in predicted.tolist()], true + 1] = areas
    return shared


class RegionEvaluator:
    """Panoptic quality of class maps: all pixels of a class in an image are one segment.

    It compares models that have no segments (per-pixel classification) with those that do, by how well they find whole
    regions rather than pixels.

    Args:
        num_classes: K.
        ignore_label: value of the ground truth where nothing is known.

    Source: PQ^St of "Per-Pixel Classification is Not All You Need for Semantic Segmentation", section 4.1.
    """

    def __init__(self, num_classes: int, ignore_label: int = 255) -> None:
        self.ignore_label = ignore_label
        self._quality = PanopticEvaluator(num_classes, ())

    def update(self, prediction: ArrayLike, truth: ArrayLike) -> None:
        """Count one image; arguments as `SemanticEvaluator.update`'s.

        Raises:
            ValueError: if the maps differ in size, or ``truth`` holds what is neither a class nor ``ignore_label``.
        """
        prediction, truth = to_numpy(prediction), to_numpy(truth)
        if prediction.shape != truth.shape:
            raise ValueError(
                f"RegionEvaluator: prediction must have the size of truth, {truth.shape}, got {prediction.shape}"
            )
        count = self._quality.num_classes
        predicted, true, areas = pair_areas(prediction, truth)
        if ((true != self.ignore_label) & ((true < 0) | (true >= count))).any():
            raise ValueError(
                f"RegionEvaluator: truth must hold classes in [0, {count}) or {self.ignore_label}, "
                f"got values from {true.min()} to {true.max()}"
            )
        no_class = (predicted < 0) | (predicted >= count)
        classes, rows = np.unique(np.where(no_class, -1, predicted), return_inverse=True)
        labels, columns = np.unique(np.where(true == self.ignore_label, -1, true), return_inverse=True)
        area = np.zeros((len(classes), len(labels)), dtype=np.int64)
        np.add.at(area, (rows, columns), areas)
        if not len(classes) or classes[0] != -1:  # row 0 is void in any case
            classes, area = np.insert(classes, 0, -1), np.insert(area, 0, 0, axis=0)
        if not len(labels) or labels[0] != -1:
            labels, area = np.insert(labels, 0, -1), np.insert(area, 0, 0, axis=1)
        self._quality.count(area, classes[1:], labels[1:])

    def state(self) -> dict[str, Any]:
        """Return what has been counted, to be sent to another process."""
        return self._quality.state()

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process counted."""
        self._quality.merge(state)

    def compute(self) -> dict[str, Any]:
        """Return ``PQ_semantic``, ``SQ_semantic``, ``RQ_semantic`` and, in ``per_class``, the list ``PQ_semantic``."""
        scores = self._quality.compute()
        result: dict[str, Any] = {f"{name}_semantic": scores[name] for name in ("PQ", "SQ", "RQ")}
        result["per_class"] = {"PQ_semantic": scores["per_class"]["PQ"]}
        return result


class ConstantBaseline:
    """Score what takes no model: every image predicted as one segment of one stuff class.

    Args:
        num_classes: K.
        thing_classes: ids of the thing classes; each other class is tried.
    """

    def __init__(self, num_classes: int, thing_classes: Collection[int]) -> None:
        stuff = [label for label in range(num_classes) if label not in set(thing_classes)]
        self.evaluators = {label: PanopticEvaluator(num_classes, thing_classes) for label in stuff}

    def update(self, segment_map: ArrayLike, labels: ArrayLike, crowd: ArrayLike | None = None) -> None:
        """Count one image; arguments as the ground truth of `PanopticEvaluator.update`."""
        truth, labels = to_numpy(segment_map), to_numpy(labels).astype(np.int64)
        areas = np.bincount(truth.reshape(-1) + 1, minlength=1 + len(labels))
        area = np.stack([np.zeros_like(areas), areas])
        crowd = None if crowd is None else to_numpy(crowd).astype(bool)
        for label, evaluator in self.evaluators.items():
            evaluator.count(area, np.array([label]), labels, crowd)

    def state(self) -> dict[int, dict[str, Any]]:
        """Return what has been counted, to be sent to another process."""
        return {label: evaluator.state() for label, evaluator in self.evaluators.items()}

    def merge(self, state: dict[int, dict[str, Any]]) -> None:
        """Add what another process counted."""
        for label, evaluator in self.evaluators.items():
            evaluator.merge(state[label])

    def compute(self) -> tuple[int, float] | None:
        """Return the stuff class that scores best and its PQ, the mean over all classes; None without stuff classes."""
        scores = {label: evaluator.compute()["PQ"] for label, evaluator in self.evaluators.items()}
        known = {label: score for label, score in scores.items() if score == score}
        return max(known.items(), key=lambda item: item[1]) if known else None
