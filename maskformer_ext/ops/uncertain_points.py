"""Choose the points at which mask logits are nearest to 0, where a mask's edge is."""

import torch
from torch import Tensor

from maskformer_ext.ops.mask_loss import check_mask_logits
from maskformer_ext.ops.support.checks import check_same_device, shape, whole_number
from maskformer_ext.ops.support.library import native, register
from maskformer_ext.ops.support.points import check_points, sample

_OP = "uncertain_points"


def uncertain_points(mask_logits: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Choose, for each mask, the candidates at which its sampled logit is nearest to 0.

    Logits are sampled bilinearly (align_corners=False) and are 0 outside the mask, as by ``grid_sample``. Of equally
    near candidates the first ones are chosen. A NaN comes after every number.

    Args:
        mask_logits: (N, h, w) floating.
        candidates: (N, M, 2) floating, x and y from 0 at the left and top edge to 1 at the right and bottom edge. One
            that is infinite or NaN lies outside the mask.
        count: how many to choose, from 0 to M.

    Returns:
        (N, count, 2) of the dtype of candidates, in the order of the candidates. There is no gradient.

    Raises:
        TypeError: mask_logits or candidates is not floating, or count is no integer.
        ValueError: shapes or devices do not fit, or count is out of range.

    Source: PointRend (arXiv 1912.08193), section 3.1, and Mask2Former (arXiv 2112.01527), section 3.3.
    """
    check_mask_logits(_OP, mask_logits)
    check_points(_OP, "candidates", candidates, mask_logits.shape[0])
    check_same_device(_OP, mask_logits=mask_logits, candidates=candidates)
    if mask_logits.shape[0] and 0 in mask_logits.shape[1:]:
        raise ValueError(f"{_OP}: mask_logits must have at least one pixel, got {shape(mask_logits)}")
    count = whole_number(_OP, "count", count)
    if not 0 <= count <= candidates.shape[1]:
        raise ValueError(f"{_OP}: count must lie in [0, M] with M = {candidates.shape[1]}, got {count}")
    mask_logits, candidates = mask_logits.detach(), candidates.detach()
    if native(_OP, mask_logits, candidates):
        chosen = torch.ops.maskformer_ext.uncertain_points(mask_logits, candidates.float(), count)
        return chosen.to(candidates.dtype)
    return _reference(mask_logits, candidates, count)


def _reference(mask_logits: Tensor, candidates: Tensor, count: int) -> Tensor:
    if 0 in mask_logits.shape:
        return candidates[:, :count]
    dtype = torch.promote_types(torch.promote_types(mask_logits.dtype, candidates.dtype), torch.float32)
    distance = sample(mask_logits.to(dtype), candidates.to(dtype)).abs()
    nearest = distance.sort(dim=1, stable=True).indices[:, :count]  # NaN last
    return candidates.gather(1, nearest.sort(dim=1).values.unsqueeze(-1).expand(-1, -1, 2))


def _fake(mask_logits: Tensor, candidates: Tensor, count: int) -> Tensor:
    return candidates.new_empty((candidates.shape[0], count, 2))


register(_OP, fake=_fake)
