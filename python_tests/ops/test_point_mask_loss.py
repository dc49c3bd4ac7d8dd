"""point_mask_loss against its float64 reference, torch's grid_sample and transformers' Mask2Former loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, loss_errors
from typed import present

from maskformer_ext.ops import MaskTargets, SegmentTargets, point_mask_loss, uncertain_points

LOGITS = (20, 24)
PIXELS = (80, 96)
IMAGE = torch.tensor([0, 2, 2, -1, 0, 2, 0])
SEGMENT = torch.tensor([0, 8, 3, -1, 4, 0, -1])


def make_targets(form, size=PIXELS, counts=(5, 0, 9)):
    """Segments of three images in blocks of 4 x 4 pixels, with void between; as a segment map or as masks."""
    coarse = (size[0] // 4 + 1, size[1] // 4 + 1)
    maps = torch.stack([torch.randint(-1, n, coarse) if n else torch.full(coarse, -1) for n in counts])
    maps = maps.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : size[0], : size[1]]
    dtype = torch.int16 if form == "short" else torch.int32
    labels = torch.zeros(len(counts), max(counts), dtype=torch.int64)
    targets = SegmentTargets(maps.to(dtype), labels, torch.tensor(counts))
    if form in ("segments", "short"):
        return targets
    masks = targets.to_masks()
    of_dtype = {"bool": torch.bool, "uint8": torch.uint8, "float": torch.float32, "bfloat16": torch.bfloat16}[form]
    return MaskTargets(masks.masks.to(of_dtype), masks.labels, masks.num_segments, void=masks.void)


def make_points(count=700, masks=7):
    return 1.1 * torch.rand(masks, count, 2) - 0.05


def off_the_edges(points, size):
    """Move points to where float32 and float64 find the same nearest pixel."""
    sizes = torch.tensor([size[1], size[0]])
    position = points * sizes
    inside = position.floor() + 0.1 + 0.8 * (position - position.floor())
    return inside / sizes


def of_points(targets, points, call=point_mask_loss, sampling="bilinear", image=IMAGE, segment=SEGMENT):
    return lambda x: call(x, targets, image, segment, points, sampling=sampling)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [PIXELS, (79, 50), (1, 9), (7, 1)], ids=str)
@pytest.mark.parametrize("form", ["segments", "short", "bool", "uint8", "float", "bfloat16"])
def test_losses_and_gradients_equal_the_float64_reference(kernels, form, size, sampling):
    targets, points = make_targets(form, size), off_the_edges(make_points(), size)
    logits = 3 * torch.randn(len(IMAGE), *LOGITS)
    found = loss_errors(of_points(targets, points, kernels.point_mask_loss, sampling), logits)
    assert max(found.values()) <= LARGEST_ERROR, found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 4e-3), (torch.float16, 5e-4)])
def test_gradients_of_half_precision_are_rounded_once(kernels, dtype, tolerance):
    targets, points = make_targets("segments"), make_points()
    logits = (3 * torch.randn(len(IMAGE), *LOGITS)).to(dtype)
    found = loss_errors(of_points(targets, points, kernels.point_mask_loss), logits)
    assert max(found["focal"], found["dice"]) <= LARGEST_ERROR, found
    assert max(found["grad_focal"], found["grad_dice"]) <= tolerance, found


def test_many_points_in_few_pixels(kernels):
    targets, points = make_targets("segments"), make_points(3000 if kernels.slow else 12544)
    found = loss_errors(of_points(targets, points, kernels.point_mask_loss), torch.randn(len(IMAGE), 2, 3))
    assert max(found.values()) <= LARGEST_ERROR, found


def test_losses_are_those_of_grid_sample(kernels):
    targets, points = make_targets("bool"), make_points()
    paired = (IMAGE >= 0) & (SEGMENT >= 0)
    logits = torch.randn(len(IMAGE), *LOGITS)
    grid = 2 * points.double().unsqueeze(2) - 1
    x = F.grid_sample(logits.double().unsqueeze(1), grid, align_corners=False)[paired, 0, :, 0]
    masks = targets.masks[IMAGE, SEGMENT].double().unsqueeze(1)
    for sampling in ("bilinear", "nearest"):
        t = F.grid_sample(masks, grid, align_corners=False, mode=sampling)[paired, 0, :, 0]
        entropy = F.binary_cross_entropy_with_logits(x, t, reduction="none").mean(1)
        dice = 1 - (2 * (x.sigmoid() * t).sum(1) + 1) / (x.sigmoid().sum(1) + t.sum(1) + 1)
        found = of_points(targets, points, kernels.point_mask_loss, sampling)(logits)
        assert error(found[0][paired], entropy) < 1e-5
        assert error(found[1][paired], dice) < 1e-5


def test_a_segment_map_and_its_masks_give_the_same_bits(kernels):
    segments, points = make_targets("segments"), make_points()
    logits = torch.randn(len(IMAGE), *LOGITS)
    for sampling in ("bilinear", "nearest"):
        found = of_points(segments, points, kernels.point_mask_loss, sampling)(logits)
        wanted = of_points(segments.to_masks(), points, kernels.point_mask_loss, sampling)(logits)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("form", ["segments", "bool"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_pair_loss_and_gradient_are_zero(kernels, form, dtype):
    logits = torch.randn(len(IMAGE), *LOGITS, dtype=dtype)
    alone = (IMAGE < 0) | (SEGMENT < 0)
    logits[alone] = float("nan")
    logits.requires_grad_()
    entropy, dice = of_points(make_targets(form), make_points(), kernels.point_mask_loss)(logits)
    (grad,) = torch.autograd.grad((entropy / entropy.detach()).nan_to_num().sum() + dice.sum(), logits)
    for tensor in (entropy, dice, grad):
        assert torch.equal(tensor[alone], torch.zeros_like(tensor[alone]))
        assert tensor[~alone].isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_in_its_mask(kernels, value):
    targets, points = make_targets("segments"), make_points()
    logits = torch.randn(len(IMAGE), *LOGITS)
    logits[1, 5, 7] = value
    results = []
    for x in (logits.clone().requires_grad_(), logits.double().requires_grad_()):
        losses = of_points(targets, points, kernels.point_mask_loss)(x)
        results.append((*losses, torch.autograd.grad(losses[0].sum() + losses[1].sum(), x)[0]))
    for found, wanted in zip(*results, strict=True):
        finite = wanted.isfinite()
        assert finite[torch.arange(len(IMAGE)) != 1].all()
        assert value == value or not found[1].isfinite().all()
        torch.testing.assert_close(found.double()[finite], wanted[finite], rtol=1e-5, atol=1e-6)


def test_points_outside_or_not_finite_sample_zero(kernels):
    targets = make_targets("segments")
    outside = torch.tensor([[3.0, 0.5], [0.5, -2.0], [float("nan"), 0.5], [0.5, float("inf")], [1e30, -1e30]])
    logits = torch.full((len(IMAGE), *LOGITS), 7.0, requires_grad=True)
    points = outside.expand(len(IMAGE), -1, -1)
    for sampling in ("bilinear", "nearest"):
        entropy, dice = of_points(targets, points, kernels.point_mask_loss, sampling)(logits)
        paired = (IMAGE >= 0) & (SEGMENT >= 0)
        torch.testing.assert_close(entropy, paired * torch.tensor(2.0).log())
        torch.testing.assert_close(dice, paired * (1 - 1 / 3.5))
        (grad,) = torch.autograd.grad(entropy.sum() + dice.sum(), logits)
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_to_compare_is_zero(kernels, dtype):
    none, some = make_targets("segments", counts=(0, 0)), make_targets("segments")
    without = MaskTargets(torch.zeros(2, 0, *PIXELS).bool(), none.labels, none.num_segments)
    for targets, rows, points in ((none, 0, 9), (none, 2, 9), (without, 2, 9), (some, 2, 0)):
        logits = torch.randn(rows, *LOGITS, dtype=dtype, requires_grad=True)
        index = torch.full((rows,), 0 if targets is some else -1)
        losses = kernels.point_mask_loss(logits, targets, index, index, torch.rand(rows, points, 2))
        for loss in losses:
            assert torch.equal(loss, torch.zeros(rows, dtype=dtype))
        (losses[0].sum() + losses[1].sum()).backward()
        assert torch.equal(present(logits.grad), torch.zeros_like(logits))


@pytest.mark.cuda_kernels
def test_what_is_out_of_range_is_no_pair_and_void(kernels):
    targets, logits, points = make_targets("segments"), torch.randn(4, 8, 10), make_points(50, 4)
    image, segment = torch.tensor([0, 7, 0, -3]), torch.tensor([1, 0, 99, 2])
    wild = targets.segment_map.clone()
    wild[wild < 0] = 30000
    arguments = (targets.num_segments, image, segment, points, False)
    outputs = [kernels.native.point_mask_loss(logits, pixels, *arguments) for pixels in (targets.segment_map, wild)]
    for tensors in outputs:
        assert all((tensor[1:] == 0).all() for tensor in tensors)
        assert tensors[0][0] > 0
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


def test_any_strides(kernels):
    targets, points, logits = make_targets("segments"), make_points(), torch.randn(len(IMAGE), *LOGITS)
    expected = of_points(targets, points, kernels.point_mask_loss)(logits)
    wide = F.pad(targets.segment_map, (0, 5, 0, 3))[:, :-3, :-5]
    strided = SegmentTargets(wide, targets.labels, targets.num_segments)
    others = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0), points.mT.contiguous().mT
    found = of_points(strided, others[1], kernels.point_mask_loss)(others[0])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_one_loss_alone_has_a_gradient(kernels):
    targets, points = make_targets("segments"), make_points(100)
    logits = torch.randn(len(IMAGE), *LOGITS, requires_grad=True)
    entropy, dice = of_points(targets, points, kernels.point_mask_loss)(logits)
    parts = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (entropy, dice)]
    (whole,) = torch.autograd.grad(3 * entropy.sum() + dice.sum(), logits)
    torch.testing.assert_close(whole, 3 * parts[0] + parts[1], rtol=1e-5, atol=1e-8)


def test_losses_and_gradients_of_a_layer_equal_transformers():
    modeling = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    config = modeling.Mask2FormerConfig(train_num_points=256)
    criterion = modeling.Mask2FormerLoss(config, {"loss_cross_entropy": 1.0, "loss_mask": 1.0, "loss_dice": 1.0})
    targets = make_targets("segments", counts=(5, 6))
    masks = [(targets.segment_map[image] == torch.arange(n).view(-1, 1, 1)).float() for image, n in enumerate((5, 6))]
    pairs = [(torch.randperm(9)[:n], torch.randperm(n)) for n in (5, 6)]
    logits = (3 * torch.randn(2, 9, *LOGITS)).requires_grad_()
    image = torch.tensor([0] * 5 + [1] * 6)
    query, segment = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
    torch.manual_seed(3)
    losses = criterion.loss_masks(logits, masks, pairs, 11)
    (expected,) = torch.autograd.grad(losses["loss_mask"] + losses["loss_dice"], logits)
    torch.manual_seed(3)
    candidates, others = torch.rand(11, 3 * 256, 2), torch.rand(11, 64, 2)
    matched = logits[image, query]
    points = torch.cat([uncertain_points(matched, candidates, 192), others], 1)
    entropy, dice = point_mask_loss(matched, targets, image, segment, points)
    (grad,) = torch.autograd.grad((entropy.sum() + dice.sum()) / 11, logits)
    assert error(entropy.sum() / 11, losses["loss_mask"]) < 1e-6
    assert error(dice.sum() / 11, losses["loss_dice"]) < 1e-6
    assert error(grad, expected) < 1e-5


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_reference_gradcheck(sampling):
    targets, points = make_targets("segments", size=(9, 11)), make_points(20)
    logits = torch.randn(len(IMAGE), 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_points(targets, points, sampling=sampling), logits)


def test_compiles_whole():
    call = of_points(make_targets("segments"), make_points())

    def total(x):
        entropy, dice = call(x)
        return 5 * entropy.sum() + dice.sum()

    x = torch.randn(len(IMAGE), *LOGITS, requires_grad=True)
    actual = torch.compile(total, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(actual, total(x))
    assert torch.equal(torch.autograd.grad(actual, x)[0], torch.autograd.grad(total(x), x)[0])


@pytest.mark.parametrize("form", ["segments", "float"])
def test_the_same_bits_for_any_number_of_threads(form):
    call, logits = of_points(make_targets(form), make_points()), 3 * torch.randn(len(IMAGE), *LOGITS)

    def run():
        x = logits.clone().requires_grad_()
        entropy, dice = call(x)
        return entropy.detach(), dice.detach(), torch.autograd.grad(5 * entropy.sum() + dice.sum(), x)[0]

    at_thread_counts(run)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_out_of_range_is_refused_on_a_cpu(dtype):
    targets, points = make_targets("segments"), make_points(5, 1)
    logits = torch.randn(1, *LOGITS, dtype=dtype)
    index = lambda *values: torch.tensor(values)  # noqa: E731
    with pytest.raises(ValueError, match=r"image_index must lie in \[-1, 3\), got 3"):
        point_mask_loss(logits, targets, index(3), index(0), points)
    with pytest.raises(ValueError, match=r"segment_index must lie in \[-1, 5\) for image 0, got 5"):
        point_mask_loss(logits, targets, index(0), index(5), points)
    for bad in (5, -2):
        targets.segment_map[0, 3, 4] = bad
        with pytest.raises(ValueError, match=r"segment_map must hold ids in \[-1, 5\) for image 0, got"):
            point_mask_loss(logits, targets, index(0), index(0), points)


def test_errors_name_the_argument():
    targets, logits, points = make_targets("bool"), torch.randn(len(IMAGE), *LOGITS), make_points()
    with pytest.raises(ValueError, match=r"segment_index must be \(N,\) with N = 7, got \(6,\)"):
        point_mask_loss(logits, targets, IMAGE, SEGMENT[1:], points)
    with pytest.raises(TypeError, match=r"image_index must be int64, got torch\.int32"):
        point_mask_loss(logits, targets, IMAGE.int(), SEGMENT, points)
    with pytest.raises(TypeError, match="targets must be SegmentTargets or MaskTargets, got Tensor"):
        point_mask_loss(logits, targets.masks, IMAGE, SEGMENT, points)
    with pytest.raises(ValueError, match=r"points must be \(N, P, 2\) with N = 7, got \(7, 700, 1\)"):
        point_mask_loss(logits, targets, IMAGE, SEGMENT, points[..., :1])
    with pytest.raises(ValueError, match="sampling must be one of bilinear, nearest, got 'cubic'"):
        point_mask_loss(logits, targets, IMAGE, SEGMENT, points, sampling="cubic")


@given(
    form=st.sampled_from(["segments", "short", "bool", "float"]),
    size=st.tuples(st.integers(1, 30), st.integers(1, 40)),
    target_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    count=st.integers(1, 200),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_any_sizes_equal_the_float64_reference(form, size, target_size, count, seed):
    torch.manual_seed(seed)
    call = of_points(make_targets(form, target_size), make_points(count))
    found = loss_errors(call, 3 * torch.randn(len(IMAGE), *size))
    # The rounding of a coordinate counts in a soft target: one pixel is 1/90 of the map.
    assert max(found.values()) <= 2e-5, found
