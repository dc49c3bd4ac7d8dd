"""Train your own tensors with the ops alone: matching cost, assignment and mask losses in a plain torch loop.

The ops need torch and NumPy only. Twelve free queries learn the four segments of a label map; any network may take
their place. Run it with ``python examples/use_one_op.py``.
"""

import torch

from maskformer_ext import ops

CLASSES, QUERIES, SIZE = 3, 12, 128

# The ground truth: one class id per pixel, 255 = void. `from_id_map` and `from_masks` take instances.
label_map = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
label_map[:, 20:60, 20:100] = 1
label_map[:, 70:110, 40:90] = 2
label_map[:, :8] = 255
targets = ops.SegmentTargets.from_label_map(label_map)
image, segment = targets.pairs()  # one entry per segment of the batch, -1 where the list is padded
label = targets.labels[image.clamp(min=0), segment.clamp(min=0)]

# What a network would predict: class logits (B, Q, K + 1) and mask logits (B, Q, h, w) at a quarter of the size.
torch.manual_seed(0)
class_logits = torch.zeros(1, QUERIES, CLASSES + 1, requires_grad=True)
mask_logits = torch.randn(1, QUERIES, SIZE // 4, SIZE // 4, requires_grad=True)
optimizer = torch.optim.Adam([class_logits, mask_logits], lr=0.2)

for step in range(61):
    with torch.no_grad():
        cost = ops.matching_cost(class_logits, mask_logits, targets)  # (B, Q, T)
        query = ops.linear_sum_assignment(cost, targets.num_segments)  # (B, T): the query of each segment
    matched = query[image, segment]
    # Mask losses at the full resolution of the targets: no mask of that size is made.
    focal, dice = ops.matched_mask_loss(mask_logits[image, matched], targets, image, segment)
    wanted = torch.full((1, QUERIES), CLASSES)  # "no object", unless a segment is matched
    wanted[image[image >= 0], matched[image >= 0]] = label[image >= 0]
    class_loss = torch.nn.functional.cross_entropy(class_logits.flatten(0, 1), wanted.flatten())
    loss = class_loss + (20 * focal + dice).sum() / targets.num_segments.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step:2d}  loss {loss.item():.3f}")

class_map = ops.semantic_inference(class_logits[0].detach(), mask_logits[0].detach(), (SIZE, SIZE))
known = label_map[0] != 255
print(f"pixels with the right class: {(class_map == label_map[0])[known].float().mean():.1%}")
