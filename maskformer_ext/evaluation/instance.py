"""Average precision of instance masks, as COCO defines it, computed by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maskformer_ext.data.types import TrueInstance
from maskformer_ext.ops.counting import to_numpy

_SIZES: dict[str, list[float]] = {
    "all": [0, 1e10],
    "small": [0, 32**2],
    "medium": [32**2, 96**2],
    "large": [96**2, 1e10],
}
_IOU_50, _IOU_75 = 0, 5  # in COCO's list 0.50, 0.55 .. 0.95


class InstanceEvaluator:
    """Collect true and predicted instances over images.

    Args:
        num_classes: K.
        thing_classes: ids of the classes that are scored; None = all.
        max_detections: how many instances an image may count, best score first (COCO: 100).
    """

    def __init__(
        self, num_classes: int, thing_classes: Collection[int] | None = None, *, max_detections: int = 100
    ) -> None:
        self.num_classes = num_classes
        self.thing_classes = sorted(range(num_classes) if thing_classes is None else thing_classes)
        self.max_detections = max_detections
        self.images: list[dict[str, Any]] = []
        self.truths: list[dict[str, Any]] = []
        self.predictions: list[dict[str, Any]] = []

    def update(
        self,
        image_id: int,
        scores: ArrayLike,
        labels: ArrayLike,
        masks: Sequence[dict[str, Any]],
        segment_map: ArrayLike,
        true_labels: ArrayLike,
        crowd: ArrayLike | None = None,
        *,
        instances: Sequence[TrueInstance] | None = None,
    ) -> None:
        """Add one image.

        Args:
            image_id: a number that no other image has, in any process.
            scores: (n,) of the predicted instances.
            labels: (n,) class ids.
            masks: n COCO RLE dicts of the size of ``segment_map``.
            segment_map: (H, W) integer indices into ``true_labels``, -1 = void.
            true_labels: (T,) class id of each true segment; those of other classes than ``thing_classes`` are left out.
            crowd: (T,) bool, the segments that are a crowd of their class: nothing has to find them, and predictions on
                them do not count. None: there are no crowds.
            instances: the true instances where their masks overlap; they count instead of those of ``segment_map``.

        Raises:
            ValueError: if the masks are not as many as the scores, or differ from ``segment_map`` in size.
        """
        truth, true_labels = to_numpy(segment_map), to_numpy(true_labels)
        scores, labels = to_numpy(scores), to_numpy(labels)
        if not len(scores) == len(labels) == len(masks):
            raise ValueError(
                "InstanceEvaluator: scores, labels and masks must be as many, "
                f"got {len(scores)}, {len(labels)}, {len(masks)}"
            )
        size = [int(side) for side in truth.shape]
        for mask in masks:
            if list(mask["size"]) != size:
                raise ValueError(
                    f"InstanceEvaluator: masks must have the size of segment_map, {size}, got {mask['size']}"
                )
        self.images.append({"id": image_id, "height": size[0], "width": size[1]})
        if instances is None:
            instances = instances_of_segments(truth, true_labels, crowd)
        for true in instances:
            if true.label in self.thing_classes:
                entry = {"image_id": image_id, "category_id": true.label, "iscrowd": int(true.crowd)}
                self.truths.append({**entry, "area": true.area, "rle": true.rle})
        for score, label, mask in zip(scores.tolist(), labels.tolist(), masks, strict=True):
            self.predictions.append({"image_id": image_id, "category_id": label, "score": score, "rle": mask})

    def state(self) -> dict[str, Any]:
        """Return what has been collected, to be sent to another process."""
        return {"images": self.images, "truths": self.truths, "predictions": self.predictions}

    def merge(self, state: dict[str, Any]) -> None:
        """Add what another process collected."""
        self.images = self.images + state["images"]
        self.truths = self.truths + state["truths"]
        self.predictions = self.predictions + state["predictions"]

    def compute(self) -> dict[str, Any]:
        """Return the scores, all in 0..1.

        Returns:
            NaN where nothing is to be found, and otherwise:

            - ``AP``: mean over IoU 0.50, 0.55 .. 0.95 and over the classes that occur in the truth.
            - ``AP50``, ``AP75``: at one IoU.
            - ``AP_small``, ``AP_medium``, ``AP_large``: of true masks below 32 x 32 pixels, below 96 x 96, and larger.
            - ``AR``: mean recall over the same IoUs.
            - ``per_class``: lists ``AP`` and ``AP50``, NaN for classes without a true instance.
        """
        nan = float("nan")
        names = ("AP", "AP50", "AP75", *(f"AP_{size}" for size in _SIZES if size != "all"), "AR")
        if all(truth["iscrowd"] for truth in self.truths):
            nothing = [nan] * self.num_classes
            return {**dict.fromkeys(names, nan), "per_class": {"AP": nothing, "AP50": nothing}}
        precision, recall = self._curves()
        everything = precision[..., 0]
        per_class, per_class_50 = [nan] * self.num_classes, [nan] * self.num_classes
        for column, label in enumerate(self.thing_classes):
            per_class[label] = _mean_known(everything[:, :, column])
            per_class_50[label] = _mean_known(everything[_IOU_50, :, column])
        values = [everything, everything[_IOU_50], everything[_IOU_75]]
        values += [precision[..., index] for index, size in enumerate(_SIZES) if size != "all"]
        scores = {name: _mean_known(part) for name, part in zip(names, [*values, recall[..., 0]], strict=True)}
        return {**scores, "per_class": {"AP": per_class, "AP50": per_class_50}}

    def _curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Run COCO's evaluation; return precision (IoUs, recalls, classes, sizes) and recall (IoUs, classes, sizes)."""
        from faster_coco_eval import COCO, COCOeval_faster

        # In the order of the images, so that the number of processes does not decide between equal scores.
        truths = [_annotation(number, truth) for number, truth in enumerate(sorted(self.truths, key=_image_id), 1)]
        wanted = set(self.thing_classes)
        detections = [
            {**{key: entry[key] for key in ("image_id", "category_id", "score")}, "segmentation": entry["rle"]}
            for entry in sorted(self.predictions, key=_image_id)
            if entry["category_id"] in wanted
        ]
        if not detections:
            return self._nothing_found()
        ground_truth = COCO(
            {
                "images": sorted(self.images, key=lambda image: image["id"]),
                "annotations": truths,
                "categories": [{"id": label, "name": str(label)} for label in self.thing_classes],
            },
            print_function=_silent,
        )
        evaluation = COCOeval_faster(
            ground_truth, ground_truth.loadRes(detections), iouType="segm", print_function=_silent
        )
        evaluation.params.maxDets = [self.max_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = list(_SIZES.values()), list(_SIZES)
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]

    def _nothing_found(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the curves without a prediction: 0 for the classes and sizes that occur in the truth."""
        occurs = np.full((len(self.thing_classes), len(_SIZES)), -1.0)
        for truth in self.truths:
            if not truth["iscrowd"]:
                inside = [low <= truth["area"] <= high for low, high in _SIZES.values()]
                occurs[self.thing_classes.index(truth["category_id"]), inside] = 0.0
        return np.tile(occurs, (10, 101, 1, 1)), np.tile(occurs, (10, 1, 1))


def _annotation(number: int, truth: dict[str, Any]) -> dict[str, Any]:
    """Return a true instance as COCO's files describe it."""
    from faster_coco_eval.core import mask as rle_tools

    rle = truth["rle"]
    if isinstance(rle["counts"], list):
        rle = rle_tools.frPyObjects(rle, *rle["size"])
    bbox = [float(side) for side in rle_tools.toBbox(rle)]
    entry = {key: truth[key] for key in ("image_id", "category_id", "area", "iscrowd")}
    return {"id": number, "segmentation": rle, "bbox": bbox, **entry}


def instances_of_segments(
    segment_map: np.ndarray, labels: np.ndarray, crowd: ArrayLike | None = None
) -> list[TrueInstance]:
    """Return the segments of a map that have a pixel, as instances.

    Args:
        segment_map: (H, W) integer indices into ``labels``, -1 = void.
        labels: (T,) class ids.
        crowd: (T,) bool, the segments that are crowd regions; None: there are none.

    Raises:
        ValueError: if ``crowd`` is not as long as ``labels``.
    """
    crowd = np.zeros(len(labels), dtype=bool) if crowd is None else to_numpy(crowd).astype(bool)
    if len(crowd) != len(labels):
        raise ValueError(f"InstanceEvaluator: crowd must be (T,) = ({len(labels)},), got ({len(crowd)},)")
    size = [int(side) for side in segment_map.shape]
    areas = np.bincount(segment_map[segment_map >= 0].reshape(-1), minlength=len(labels)).tolist()
    runs = runs_of_segments(segment_map, len(labels))
    rows = zip(labels.tolist(), runs, areas, crowd.tolist(), strict=True)
    return [
        TrueInstance(label, {"size": size, "counts": counts}, area, is_crowd)
        for label, counts, area, is_crowd in rows
        if area
    ]


def runs_of_segments(segment_map: np.ndarray, num_segments: int) -> list[list[int]]:
    """Return COCO's uncompressed run lengths of every segment in one pass over the map.

    Args:
        segment_map: (H, W) integers, index of the segment that owns the pixel, -1 = none.
        num_segments: T.

    Returns:
        For each segment the lengths of alternating runs outside and inside it, down the columns, starting outside.
    """
    flat = segment_map.T.reshape(-1)
    starts = (
        np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if len(flat) else np.zeros(0, dtype=np.int64)
    )
    ends = np.append(starts[1:], len(flat))
    owners = flat[starts] if len(flat) else flat
    runs: list[list[int]] = [[] for _ in range(num_segments)]
    position = [0] * num_segments
    for owner, start, end in zip(owners.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if owner >= 0:
            runs[owner] += [start - position[owner], end - start]
            position[owner] = end
    for index, counts in enumerate(runs):
        counts.append(len(flat) - position[index])
    return runs


def _image_id(entry: dict[str, Any]) -> int:
    return entry["image_id"]


def _mean_known(precision: np.ndarray) -> float:
    """Average what COCO computed; -1 marks classes without a true instance."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")


def _silent(*_: Any, **__: Any) -> None:
    """Print nothing."""
