"""The matching cost and each of its parts equal the golden costs of the original."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segments import PARTS

from maskformer_ext.ops import MaskTargets, matching_cost


def golden_cases(golden_dir: Path) -> tuple[dict, dict]:
    arrays = dict(np.load(golden_dir / "criterion.npz"))
    cases = json.loads((golden_dir / "criterion.json").read_text())
    return arrays, {name: case for name, case in cases.items() if "target_counts" in case}


def golden_inputs(arrays: dict, name: str, case: dict) -> tuple[torch.Tensor, torch.Tensor, MaskTargets]:
    class_logits = torch.from_numpy(arrays[f"{name}/pred_logits"]).float()
    mask_logits = torch.from_numpy(arrays[f"{name}/pred_masks"]).float()
    masks = [torch.from_numpy(arrays[f"{name}/target{b}/masks"]) for b in range(case["B"])]
    labels = [torch.from_numpy(arrays[f"{name}/target{b}/labels"]).long() for b in range(case["B"])]
    return class_logits, mask_logits, MaskTargets.from_masks(masks, labels)


def test_golden_costs_and_their_parts(golden_dir):
    arrays, cases = golden_cases(golden_dir)
    compared = 0
    for name, case in cases.items():
        class_logits, mask_logits, targets = golden_inputs(arrays, name, case)
        weights: dict[str, dict[str, Any]] = {part: {p: float(p == part) for p in PARTS} for part in PARTS}
        only = {part: matching_cost(class_logits, mask_logits, targets, **weights[part]) for part in PARTS}
        costs = {
            "total": matching_cost(class_logits, mask_logits, targets),
            "class": only["class_weight"],
            "mask": only["focal_weight"],
            "dice": only["dice_weight"],
        }
        for layer, layer_name in enumerate(case["layer_order"]):
            for image, count in enumerate(case["target_counts"]):
                for part, cost in costs.items():
                    expected = arrays.get(f"{name}/cost_{part}/{layer_name}/{image}")
                    if expected is None:
                        continue
                    ours = cost[layer, image, :, :count].numpy()
                    np.testing.assert_allclose(ours, expected.reshape(ours.shape), rtol=1e-5, atol=1e-5)
                    assert (cost[layer, image, :, count:] == 0).all()
                    compared += 1
    assert compared > 40
