"""mask_loss against transformers' losses of masks resized with `interpolate`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import SegmentTargets, mask_loss, matched_mask_loss

SMALL = {"masks": 4, "size": 16, "target_size": 64}
ON_GPU = [{"masks": 320, "images": 16, "dtype": dtype} for dtype in ("float32", "bfloat16")]
_WEIGHTS = (20.0, 1.0)


def build(
    *,
    device: str,
    masks: int,
    images: int = 1,
    backward: bool = True,
    size: int = 128,
    target_size: int = 512,
    targets: str = "bool",
    dtype: str = "float32",
) -> Case:
    """Make predictions (masks, size, size) and targets of `target_size`. Each image has as many masks.

    `targets` is the form that ours is given: `bool` or `float32` masks for `mask_loss`, or `segment_map`, one map of
    indices, for `matched_mask_loss`. The peer takes float32 masks only.
    """
    theirs = optional("transformers.models.maskformer.modeling_maskformer")
    count = max(masks // images, 1)
    images = masks // count
    segment_maps = scenes.segment_maps(images, count, target_size)
    boolean = torch.cat([scenes.masks_of(segment_map, count) for segment_map in segment_maps])
    logits = scenes.logits_for(boolean, size).to(device, getattr(torch, dtype)).requires_grad_(backward)
    float_masks = boolean.to(device, logits.dtype)
    given = {"bool": boolean, "float32": boolean.float(), "segment_map": segment_maps}[targets].to(device)

    def finish(focal, dice):
        if not backward:
            return focal, dice
        total = _WEIGHTS[0] * focal + _WEIGHTS[1] * dice
        return focal.detach(), dice.detach(), *torch.autograd.grad(total, logits)

    if targets == "segment_map":
        labels = torch.zeros(images, count, dtype=torch.int64, device=device)
        segments = SegmentTargets(given, labels, torch.full((images,), count, device=device))
        image_index = torch.arange(images, device=device).repeat_interleave(count)
        segment_index = torch.arange(count, device=device).repeat(images)

    def ours():
        if targets == "segment_map":
            focal, dice = matched_mask_loss(logits, segments, image_index, segment_index)
        else:
            focal, dice = mask_loss(logits, given)
        return finish(focal.sum() / masks, dice.sum() / masks)

    def peer():
        resized = F.interpolate(logits[:, None], size=(target_size, target_size), mode="bilinear", align_corners=False)
        resized, flat = resized[:, 0].flatten(1), float_masks.flatten(1)
        return finish(theirs.sigmoid_focal_loss(resized, flat, masks), theirs.dice_loss(resized, flat, masks))

    passes = "forward + backward" if backward else "forward"
    form = {"bool": "", "float32": ", float32 targets", "segment_map": ", segment map"}[targets]
    precision = "" if dtype == "float32" else f", {dtype}"
    return Case(
        op="matched_mask_loss" if targets == "segment_map" else "mask_loss",
        title=f"{masks} masks {size}x{size} -> {target_size}x{target_size}, {passes}{form}{precision}",
        ours=ours,
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5 if dtype == "float32" else 1e-1,  # the peer adds up gradients in half precision
        inputs={"mask_logits": logits, "targets": given},
        notes=("the peer is given float32 targets, the only form that it takes",),
    )


@pytest.mark.parametrize("backward", [True, False], ids=["forward_backward", "forward"])
@pytest.mark.parametrize("masks", [20, 60])
def test_mask_loss(compare, masks, backward):
    """Masks as they come out of a data set: one boolean mask per segment."""
    compare(masks=masks, backward=backward)


def test_mask_loss_of_float_targets(compare):
    """The same float32 masks for ours and the peer."""
    compare(masks=20, targets="float32")


def test_mask_loss_of_many_masks(compare):
    """All layers of a crowded batch at once."""
    compare(masks=240, seconds=12.0)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_mask_loss_on_a_gpu(compare_on_gpu, parameters):
    """All matched masks of one layer of 16 images."""
    compare_on_gpu(**parameters)
