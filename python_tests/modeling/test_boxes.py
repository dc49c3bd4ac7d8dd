"""Boxes of segments, their distance, and matching by boxes."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from tiny import tiny_config
from torchvision.ops import box_convert, generalized_box_iou, masks_to_boxes
from typed import present

from maskformer_ext.checkpoints.models import build_model
from maskformer_ext.config import CriterionConfig
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.boxes import box_distance, segment_boxes
from maskformer_ext.modeling.build_criterion import build_criterion
from maskformer_ext.modeling.criterion import MaskFormerCriterion
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.ops.targets import SegmentTargets

HEIGHT, WIDTH = 20, 28


def _batch() -> SegmentTargets:
    """Two images: three segments of which the last has no pixel, and one; void around them."""
    segment_map = torch.full((2, HEIGHT, WIDTH), -1, dtype=torch.int32)
    segment_map[0, 3:9, 5:17] = 0
    segment_map[0, 6:20, 10:12] = 1
    segment_map[1, 0, 27] = 0
    return SegmentTargets(segment_map, torch.tensor([[2, 0, 1], [3, 0, 0]]), torch.tensor([3, 1]))


def _output(layers: int = 2, queries: int = 5) -> MaskFormerOutput:
    torch.manual_seed(0)
    boxes = torch.rand(layers, 2, queries, 4).requires_grad_()
    return MaskFormerOutput(
        torch.randn(layers, 2, queries, 5), torch.randn(layers, 2, queries, 8), torch.randn(2, 8, 5, 7), boxes
    )


def test_boxes_are_those_of_torchvision() -> None:
    targets = _batch()
    boxes = segment_boxes(targets)
    assert torch.equal(boxes, segment_boxes(targets.to_masks()))
    assert boxes[0, 2].eq(0).all() and boxes[1, 1:].eq(0).all()
    for image, segment in ((0, 0), (0, 1), (1, 0)):
        corners = masks_to_boxes((targets.segment_map[image] == segment)[None])[0]
        corners[2:] += 1  # torchvision's end inside the last pixel
        expected = box_convert(corners, "xyxy", "cxcywh") / torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        torch.testing.assert_close(boxes[image, segment], expected)


def test_ids_out_of_range_have_no_box() -> None:
    targets = _batch()
    targets.segment_map[1, 4, 4] = 9
    torch.testing.assert_close(segment_boxes(targets), segment_boxes(_batch()))


def test_distance_is_that_of_torchvision() -> None:
    torch.manual_seed(1)
    boxes, others = torch.rand(30, 4), torch.rand(20, 4)
    difference, disjoint = box_distance(boxes[:, None], others)
    torch.testing.assert_close(difference, torch.cdist(boxes, others, p=1))
    giou = generalized_box_iou(*(box_convert(side, "cxcywh", "xyxy") for side in (boxes, others)))
    torch.testing.assert_close(disjoint, 1 - giou)
    assert torch.equal(box_distance(boxes, boxes)[1] < 1e-5, torch.ones(30, dtype=torch.bool))
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda box: box_distance(box.float(), others[:1])[1].double(), boxes.double()[:4], eps=1e-3, atol=1e-2
    )
    point = torch.zeros(1, 4, requires_grad=True)
    difference, disjoint = box_distance(point, torch.zeros(1, 4))
    (difference.sum() + disjoint.sum()).backward()
    assert present(point.grad).isfinite().all()


def test_matching_takes_class_and_box_and_no_mask() -> None:
    out, targets = _output(), _batch()
    criterion = MaskFormerCriterion(4, matching="box", class_weight=3.0)
    query = criterion.matcher(out, targets)
    wanted = segment_boxes(targets)
    for layer in range(2):
        for image in range(2):
            count = int(targets.num_segments[image])
            labels = targets.labels[image, :count]
            difference, disjoint = box_distance(present(out.boxes)[layer, image][:, None], wanted[image, :count])
            cost = -3 * out.class_logits[layer, image].softmax(-1)[:, labels] + 5 * difference + 2 * disjoint
            rows, columns = linear_sum_assignment(cost.detach().numpy())
            expected = [-1, -1, -1]
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                expected[column] = row
            assert query[layer, image].tolist() == expected


def test_losses_of_boxes_count_the_segments_that_have_one() -> None:
    out, targets = _output(), _batch()
    criterion = MaskFormerCriterion(4, matching="box")
    total, losses, _ = criterion(out, targets)
    query, wanted = criterion.matcher(out, targets), segment_boxes(targets)
    pairs = [(0, 0), (0, 1), (1, 0)]  # the third segment of the first image has no pixel
    boxes = present(out.boxes)
    found = torch.stack([boxes[-1, image, query[-1, image, segment]] for image, segment in pairs])
    difference, disjoint = box_distance(found, torch.stack([wanted[pair] for pair in pairs]))
    torch.testing.assert_close(losses["loss_box"], difference.sum() / 4)
    torch.testing.assert_close(losses["loss_giou"], disjoint.sum() / 4)
    assert {"loss_box_0", "loss_giou_0"} <= set(losses)
    weights = {"loss_ce": 1, "loss_mask": 20, "loss_dice": 1, "loss_box": 5, "loss_giou": 2}
    torch.testing.assert_close(total, sum(weights[key.removesuffix("_0")] * loss for key, loss in losses.items()))
    total.backward()
    assert present(boxes.grad).abs().sum((0, 3)).gt(0).sum() >= 3
    other = MaskFormerOutput(out.class_logits, torch.randn_like(out.mask_embed), out.mask_features, out.boxes)
    assert torch.equal(criterion.matcher(other, targets), query)


def test_a_network_with_a_box_head_predicts_boxes_and_one_without_is_refused() -> None:
    config = CriterionConfig(matching="box")
    with pytest.raises(UserError, match=r"matching=box needs predicted boxes: set model\.box_head=true"):
        build_criterion(build_model(tiny_config(num_classes=4)), config)
    plain = MaskFormerOutput(*(tensor for tensor in vars(_output()).values() if tensor.shape[-1] != 4))
    with pytest.raises(ValueError, match="got an output without them"):
        MaskFormerCriterion(4, matching="box")(plain, _batch())
    model = build_model(tiny_config(num_classes=4), box_head=True)
    out = model(torch.randn(2, 3, 32, 64))
    assert out.boxes.shape == (1, 2, 8, 4) and out.boxes.min() > 0 and out.boxes.max() < 1
    total, _, _ = build_criterion(model, config)(out, _batch())
    total.backward()
    assert all(parameter.grad is not None for parameter in model.get_submodule("box_head").parameters())
