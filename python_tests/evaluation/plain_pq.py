"""Panoptic quality of files in COCO's format, written down from its definition: one loop over pairs of segments.

Source: Kirillov et al., "Panoptic Segmentation", section 4; for void and crowds COCO's description of its metric.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def plain_pq(truth_json: Path, truth_folder: Path, found_json: Path, found_folder: Path) -> dict[int, dict[str, float]]:
    """Return PQ, SQ, RQ and the counts TP, FP, FN of each category that occurs."""
    truth, found = json.loads(truth_json.read_text()), json.loads(found_json.read_text())
    entries = {entry["image_id"]: entry for entry in found["annotations"]}
    sums: dict[int, dict[str, float]] = {}
    for annotation in truth["annotations"]:
        entry = entries[annotation["image_id"]]
        _add(sums, _segments(truth_folder, annotation), _segments(found_folder, entry))
    for row in sums.values():
        mistakes = row["FP"] / 2 + row["FN"] / 2
        row["SQ"] = row["IoU"] / row["TP"] if row["TP"] else 0.0
        row["RQ"] = row["TP"] / (row["TP"] + mistakes)
        row["PQ"] = row["SQ"] * row["RQ"]
    return sums


def _segments(folder: Path, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the segments of an image with their masks; an id that the JSON file does not list is void."""
    ids = np.asarray(Image.open(folder / entry["file_name"])).astype(int) @ [1, 256, 65536]
    return [{**segment, "mask": ids == segment["id"]} for segment in entry["segments_info"]]


def _add(sums: dict[int, dict[str, float]], truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    def count(category: int, what: str, value: float = 1) -> None:
        row = sums.setdefault(category, {"IoU": 0.0, "TP": 0, "FP": 0, "FN": 0})
        row[what] += value

    known = np.zeros_like(truth[0]["mask"])
    for segment in truth:
        known |= segment["mask"]
    matched = set()
    for segment in truth:
        if segment["iscrowd"]:
            continue
        for guess in found:
            if guess["category_id"] == segment["category_id"]:
                shared = (segment["mask"] & guess["mask"]).sum()
                iou = shared / ((segment["mask"] | guess["mask"]) & (known | segment["mask"])).sum()
                if iou > 0.5:
                    count(segment["category_id"], "TP")
                    count(segment["category_id"], "IoU", iou)
                    matched.add(guess["id"])
                    break
        else:
            count(segment["category_id"], "FN")
    for guess in found:
        excused = ~known
        for segment in truth:
            if segment["iscrowd"] and segment["category_id"] == guess["category_id"]:
                excused = excused | segment["mask"]
        if guess["id"] not in matched and (excused & guess["mask"]).sum() <= 0.5 * guess["mask"].sum():
            count(guess["category_id"], "FP")
