"""point_mask_loss against transformers' Mask2Former loss: at given points, and with the choice of points."""

from __future__ import annotations

import pytest
import torch

from benchmarks import scenes
from benchmarks.case import Case, case_name, optional
from maskformer_ext.ops import SegmentTargets, point_mask_loss, uncertain_points

SMALL = {"masks": 4, "images": 2, "size": 16, "target_size": 64, "points": 64}
ON_GPU = [{"masks": masks, "images": masks // 20, "draw": draw} for masks in (40, 320) for draw in (False, True)]
_WEIGHTS = (5.0, 5.0)


def build(
    *,
    device: str,
    masks: int,
    images: int = 2,
    size: int = 128,
    target_size: int = 512,
    points: int = 12544,
    draw: bool = True,
) -> Case:
    """Make predictions (masks, size, size) and targets of `target_size`. Each image has as many masks.

    With `draw`, both sides draw candidates, choose the uncertain ones and compute the losses, from the same seed.
    """
    theirs = optional("transformers.models.mask2former.modeling_mask2former")
    count = masks // images
    segment_maps = scenes.segment_maps(images, count, target_size)
    boolean = [scenes.masks_of(segment_map, count) for segment_map in segment_maps]
    logits = scenes.logits_for(torch.cat(boolean), size).to(device).requires_grad_()
    float_masks = [mask.float().to(device) for mask in boolean]
    labels = torch.zeros(images, count, dtype=torch.int64, device=device)
    segments = SegmentTargets(segment_maps.to(device), labels, torch.full((images,), count, device=device))
    image_index = torch.arange(images, device=device).repeat_interleave(count)
    segment_index = torch.arange(count, device=device).repeat(images)
    given = torch.rand(masks, points, 2, device=device)
    uncertain = int(0.75 * points)
    pairs = [(torch.arange(count), torch.arange(count)) for _ in range(images)]
    if theirs:
        criterion = theirs.Mask2FormerLoss(theirs.Mask2FormerConfig(train_num_points=points), {})

    def finish(entropy, dice):
        (grad,) = torch.autograd.grad(_WEIGHTS[0] * entropy + _WEIGHTS[1] * dice, logits)
        return entropy.detach(), dice.detach(), grad

    def ours():
        at = given
        if draw:
            torch.manual_seed(0)
            candidates = torch.rand(masks, 3 * points, 2, device=device)
            others = torch.rand(masks, points - uncertain, 2, device=device)
            at = torch.cat([uncertain_points(logits, candidates, uncertain), others], 1)
        entropy, dice = point_mask_loss(logits, segments, image_index, segment_index, at)
        return finish(entropy.sum() / masks, dice.sum() / masks)

    def peer():
        if draw:
            torch.manual_seed(0)
            losses = criterion.loss_masks(logits.view(images, count, size, size), float_masks, pairs, masks)
            return finish(losses["loss_mask"], losses["loss_dice"])
        with torch.no_grad():
            targets = theirs.sample_point(torch.cat(float_masks)[:, None], given, align_corners=False).squeeze(1)
        sampled = theirs.sample_point(logits[:, None], given, align_corners=False).squeeze(1)
        entropy = theirs.sigmoid_cross_entropy_loss(sampled, targets, masks)
        return finish(entropy, theirs.dice_loss(sampled, targets, masks))

    what = "drawn and chosen" if draw else "given"
    return Case(
        op="point_mask_loss",
        title=f"{masks} masks {size}x{size} at {points} points of {target_size}x{target_size}, {what}, "
        "forward + backward",
        ours=ours,
        peers={"transformers": peer} if theirs else {},
        no_peer="transformers is not installed",
        tolerance=1e-5,
        inputs={"mask_logits": logits, "targets": segments.segment_map},
        notes=("the peer is given float32 masks, ours a segment map",),
        kernels=("point_mask_loss", "uncertain_points") if draw else (),
    )


@pytest.mark.parametrize("draw", [True, False], ids=["drawn", "given"])
def test_point_mask_loss(compare, draw):
    """The masks of one layer of two images."""
    compare(masks=40, draw=draw)


@pytest.mark.parametrize("parameters", ON_GPU, ids=case_name)
def test_point_mask_loss_on_a_gpu(compare_on_gpu, parameters):
    """The masks of one layer of 2 and of 16 images."""
    compare_on_gpu(**parameters)
