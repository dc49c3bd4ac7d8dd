"""Compute every native op on fixed inputs and save the results, or compare two such files (see test_abi.py)."""

import sys

import numpy as np


def compute() -> dict[str, np.ndarray]:
    """Return the results of every native op, in float32 and bfloat16, on inputs that NumPy draws."""
    import torch

    from maskformer_ext import ops
    from maskformer_ext.ops.support import library

    assert library.CPU_ERROR is None and not library.REFERENCE, library.CPU_ERROR
    rng = np.random.default_rng(0)
    queries, classes, segments, size, full = 12, 5, 7, (24, 40), (96, 150)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(3 * rng.standard_normal(shape, dtype=np.float32))

    logits, class_logits = draw(2, queries, *size), draw(3, 2, queries, classes + 1)
    stacked = draw(3, 2, queries, *size)
    segment_map = torch.from_numpy(rng.integers(-1, segments, (2, *full)).astype(np.int32))
    labels = torch.from_numpy(rng.integers(0, classes, (2, segments)))
    targets = ops.SegmentTargets(segment_map, labels, torch.full((2,), segments))
    masks = torch.from_numpy(rng.random((queries, *full)) > 0.7)
    image, segment = torch.arange(queries) % 2, torch.arange(queries) % segments
    embed, features, pair_image = draw(3, 2, queries, 16), draw(2, 16, *size), torch.arange(queries) // 6

    found: dict[str, np.ndarray] = {}
    for dtype in (torch.float32, torch.bfloat16):
        losses = {
            "mask_loss": lambda x: ops.mask_loss(x, masks),
            "matched_mask_loss": lambda x: ops.matched_mask_loss(x, targets, image, segment),
            "sigmoid_focal_loss": lambda x: (ops.sigmoid_focal_loss(x, x.detach().sigmoid()),),
            "dice_loss": lambda x: (ops.dice_loss(x, masks[:, : size[0], : size[1]].to(x.dtype)),),
        }
        for name, loss in losses.items():
            x = logits[0].to(dtype).clone().requires_grad_()
            parts = loss(x)
            (gradient,) = torch.autograd.grad([part.float().sum() for part in parts], x)
            for i, part in enumerate((*parts, gradient)):
                found[f"{name}/{dtype}/{i}"] = part.detach().float().numpy()
        cost = ops.matching_cost(class_logits.to(dtype), stacked.to(dtype), targets)
        found[f"matching_cost/{dtype}"] = cost.numpy()
        embeddings = embed.to(dtype), features.to(dtype)
        for name, value in multiply(class_logits.to(dtype), *embeddings, targets, pair_image):
            found[f"{name}/{dtype}"] = value.float().numpy()
        found[f"linear_sum_assignment/{dtype}"] = ops.linear_sum_assignment(cost, targets.num_segments).numpy()
        found.update(
            {f"{name}/{dtype}": value.numpy() for name, value in infer(class_logits[0, 0], logits[0].to(dtype))}
        )
    return found


def multiply(class_logits, embed, features, targets, pair_image):
    """Yield the results of the native matrix product, without those in which torch's own product takes part."""
    import torch

    from maskformer_ext import ops

    native = torch.ops.maskformer_ext
    yield "mask_dot", ops.mask_dot(embed, features, activation="sigmoid", out_dtype=torch.float32)
    yield "matching_cost_from_embeddings", ops.matching_cost_from_embeddings(class_logits, embed, features, targets)
    pairs, flat = embed[:2, 0].transpose(0, 1).contiguous(), features.flatten(2)
    logits = native.pair_dot(pairs, flat, pair_image)
    yield "pair_dot", logits
    yield "pair_dot_backward", native.pair_dot_backward(logits, pairs, flat, pair_image)[1]


def infer(class_logits, mask_logits):
    """Yield the results of the native inference ops on class probabilities that do not depend on torch."""
    import torch

    native, size, sizes = torch.ops.maskformer_ext, (61, 90), ((96, 160), (90, 140))
    exponential = np.exp(class_logits.numpy())
    probability = torch.from_numpy(exponential / exponential.sum(1, keepdims=True))
    classes = probability[:, :-1].contiguous()
    yield "semantic_inference", native.semantic_inference(classes, mask_logits, size, *sizes, True, False)
    scores = torch.zeros(classes.shape[1], *size)
    native.semantic_scores(classes, mask_logits, scores, size, *sizes, False, True, 0.5)
    yield "semantic_scores", scores
    panoptic = native.panoptic_inference(probability, mask_logits, size, [0, 2], 0.3, 0.1, 0.5, None, None, True, True)
    yield from zip(("panoptic_inference/map", "panoptic_inference/table"), panoptic, strict=False)
    masks = native.instance_masks(mask_logits, size, 0.0, *sizes)
    yield from zip(("instance_masks/mean", "instance_masks/boxes", "instance_masks/bits"), masks, strict=True)


def compare(first: str, second: str) -> str:
    """Return a line on how many results are equal bit for bit. Exit at one that differs by more than rounding."""
    a, b = np.load(first), np.load(second)
    assert set(a) == set(b), set(a) ^ set(b)
    worst = {name: float(np.abs(a[name].astype(np.float64) - b[name]).max() / np.abs(a[name]).max()) for name in a}
    for name, error in worst.items():
        if not error <= 2e-6:
            sys.exit(f"test-abi: {name} differs by {error:.1e} of its largest value")
    same = sum(np.array_equal(a[name], b[name]) for name in a)
    return f"{same} of {len(worst)} results equal bit for bit, largest difference {max(worst.values()):.1e}"


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        print(compare(sys.argv[2], sys.argv[3]))
    else:
        np.savez(sys.argv[1], allow_pickle=False, **compute())
