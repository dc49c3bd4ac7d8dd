"""matched_mask_loss against the golden criterion cases, mask_loss, and its float64 reference."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, loss_errors
from typed import present

from maskformer_ext.ops import MaskTargets, SegmentTargets, mask_loss, matched_mask_loss

LOGITS = (20, 24)
PIXELS = (80, 96)


def make_targets(form: str, size=PIXELS, counts=(5, 0, 9), dtype=torch.int32):
    """Segments of three images, with void between; as a segment map or as (here not overlapping) masks."""
    most = max(counts)
    maps = torch.stack([torch.randint(-1, max(n, 0), size) if n else torch.full(size, -1) for n in counts])
    targets = SegmentTargets(
        maps.to(dtype), torch.zeros(len(counts), most, dtype=torch.int64), torch.tensor(counts, dtype=torch.int64)
    )
    if form == "segments":
        return targets
    masks = targets.to_masks()
    values = {"bool": masks.masks, "float": masks.masks.float(), "uint8": masks.masks.to(torch.uint8)}[form]
    return MaskTargets(values, masks.labels, masks.num_segments, void=masks.void)


IMAGE = torch.tensor([0, 2, 2, -1, 0, 2, 0])
SEGMENT = torch.tensor([0, 8, 3, -1, 4, 0, -1])


def as_dtype(targets, dtype):
    if isinstance(targets, SegmentTargets) or not targets.masks.is_floating_point():
        return targets
    return MaskTargets(targets.masks.to(dtype), targets.labels, targets.num_segments, void=targets.void)


def errors_of(targets, logits=None, call=matched_mask_loss, **options):
    logits = 3 * torch.randn(len(IMAGE), *LOGITS) if logits is None else logits
    # where nothing but void is left, the loss is 1e-38 instead of 0
    return loss_errors(lambda x: call(x, as_dtype(targets, x.dtype), IMAGE, SEGMENT, **options), logits, floor=1e-30)


@pytest.mark.parametrize("ignore_void", [False, True])
@pytest.mark.parametrize("size", [PIXELS, (79, 50), (20, 24), (7, 9)], ids=str)
@pytest.mark.parametrize("form", ["segments", "short", "bool", "float", "uint8"])
def test_matched_mask_loss_equals_float64_reference(kernels, form, size, ignore_void):
    dtype = torch.int16 if form == "short" else torch.int32
    targets = make_targets("segments" if form == "short" else form, size, dtype=dtype)
    found = errors_of(targets, call=kernels.matched_mask_loss, ignore_void=ignore_void)
    assert max(found.values()) <= LARGEST_ERROR, found


@pytest.mark.cuda_kernels
def test_what_is_out_of_range_is_no_pair_and_void(kernels):
    targets, logits = make_targets("segments"), torch.randn(4, 8, 10)
    image, segment = torch.tensor([0, 7, 0, -3]), torch.tensor([1, 0, 99, 2])
    wild = targets.segment_map.clone()
    wild[wild < 0] = 30000
    arguments = (targets.num_segments, None, image, segment, 0.25, 2.0, True, True)
    outputs = [kernels.native.matched_mask_loss(logits, pixels, *arguments) for pixels in (targets.segment_map, wild)]
    for focal, dice, maps, _ in outputs:
        assert (focal[1:] == 0).all() and (dice[1:] == 0).all() and (maps[1:] == 0).all()
        assert focal[0] > 0
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("ignore_void", [False, True])
def test_matched_mask_loss_of_map_and_masks_are_the_same(dtype, ignore_void):
    torch.manual_seed(1)
    segments = make_targets("segments", dtype=dtype)
    logits = torch.randn(len(IMAGE), *LOGITS)
    expected = matched_mask_loss(logits, segments.to_masks(), IMAGE, SEGMENT, ignore_void=ignore_void)
    for actual, wanted in zip(
        matched_mask_loss(logits, segments, IMAGE, SEGMENT, ignore_void=ignore_void), expected, strict=True
    ):
        assert torch.equal(actual, wanted)


def test_matched_mask_loss_is_mask_loss_of_the_pairs():
    targets = make_targets("bool")
    logits = torch.randn(len(IMAGE), *LOGITS)
    focal, dice = matched_mask_loss(logits, targets, IMAGE, SEGMENT)
    paired = (IMAGE >= 0) & (SEGMENT >= 0)
    expected = mask_loss(logits[paired], targets.masks[IMAGE[paired], SEGMENT[paired]])
    assert torch.equal(focal[paired], expected[0])
    assert torch.equal(dice[paired], expected[1])


@pytest.mark.parametrize("form", ["segments", "bool"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matched_mask_loss_without_pair_is_zero(kernels, form, dtype):
    logits = torch.randn(len(IMAGE), *LOGITS, dtype=dtype)
    alone = (IMAGE < 0) | (SEGMENT < 0)
    logits[alone] = float("nan")
    logits.requires_grad_()
    focal, dice = kernels.matched_mask_loss(logits, make_targets(form), IMAGE, SEGMENT)
    (grad,) = torch.autograd.grad((focal / focal.detach()).nan_to_num().sum() + dice.sum(), logits)
    for tensor in (focal, dice, grad):
        assert torch.equal(tensor[alone], torch.zeros_like(tensor[alone]))
        assert tensor[~alone].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matched_mask_loss_without_masks_or_segments(dtype):
    none = make_targets("segments", counts=(0, 0))
    for targets, rows in (
        (none, 0),
        (none, 2),
        (MaskTargets(torch.zeros(2, 0, *PIXELS).bool(), none.labels, none.num_segments), 2),
    ):
        logits = torch.randn(rows, *LOGITS, dtype=dtype, requires_grad=True)
        index = torch.full((rows,), -1)
        focal, dice = matched_mask_loss(logits, targets, index, index)
        assert focal.shape == dice.shape == (rows,)
        assert focal.sum() == dice.sum() == 0
        (focal.sum() + dice.sum()).backward()
        assert torch.equal(present(logits.grad), torch.zeros_like(logits))


def test_matched_mask_loss_of_an_image_that_is_all_void(kernels):
    targets = make_targets("segments", counts=(3, 3, 3))
    targets.segment_map[0] = -1
    logits = torch.randn(1, *LOGITS, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.int64)
    focal, dice = kernels.matched_mask_loss(logits, targets, zero, zero, ignore_void=True)
    assert focal.item() == pytest.approx(0, abs=1e-30)
    assert dice.item() == pytest.approx(0, abs=1e-30)
    (grad,) = torch.autograd.grad(focal + dice, logits)
    assert grad.abs().max() < 1e-30


def test_matched_mask_loss_ignores_what_lies_under_void(kernels):
    targets = make_targets("segments", size=(20, 24))  # no resize, so a logit belongs to one pixel
    logits = torch.randn(len(IMAGE), *LOGITS)
    other = torch.where((targets.segment_map == -1)[IMAGE.clamp_min(0)], 50.0, logits)
    expected = kernels.matched_mask_loss(logits, targets, IMAGE, SEGMENT, ignore_void=True)
    for actual, wanted in zip(
        kernels.matched_mask_loss(other, targets, IMAGE, SEGMENT, ignore_void=True), expected, strict=True
    ):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("case", ["c1", "c2", "c3", "c5", "c6", "c7", "c8"])
def test_matched_mask_loss_equals_golden_criterion(golden_dir, case):
    arrays = np.load(golden_dir / "criterion.npz")
    name, facts = next(
        (n, f) for n, f in json.loads((golden_dir / "criterion.json").read_text()).items() if n.startswith(case)
    )
    masks = [torch.from_numpy(arrays[f"{name}/target{b}/masks"]) for b in range(facts["B"])]
    masks = [m.reshape(-1, *facts["target_hw"]) for m in masks]
    labels = [torch.from_numpy(arrays[f"{name}/target{b}/labels"]).long() for b in range(facts["B"])]
    targets = MaskTargets.from_masks(masks, labels)
    for index, layer in enumerate(facts["layer_order"]):
        predicted = torch.from_numpy(arrays[f"{name}/pred_masks"][index]).float()
        matches = [arrays[f"{name}/match/{layer}/{b}"].astype(int) for b in range(facts["B"])]
        image = torch.cat([torch.full((match.shape[1],), b) for b, match in enumerate(matches)])
        query, segment = torch.from_numpy(np.concatenate(matches, 1))
        logits = predicted[image, query].requires_grad_()
        focal, dice = matched_mask_loss(logits, targets, image, segment)
        losses, suffix = facts["losses_unweighted"], "" if layer == "last" else f"_{layer.removeprefix('aux')}"
        divisor = facts["num_masks"]
        assert focal.sum().item() / divisor == pytest.approx(losses[f"loss_mask{suffix}"], rel=1e-5, abs=1e-5)
        assert dice.sum().item() / divisor == pytest.approx(losses[f"loss_dice{suffix}"], rel=1e-5, abs=1e-5)
        (grad,) = torch.autograd.grad((20 * focal.sum() + dice.sum()) / divisor, logits)
        of_images = [arrays[f"{name}/grad_masks/{layer}/{b}"] for b in range(facts["B"])]
        expected = torch.from_numpy(np.concatenate([e.reshape(-1, *facts["pred_hw"]) for e in of_images]))
        assert (grad - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("form", ["segments", "bool"])
def test_matched_mask_loss_reference_gradcheck(form):
    targets = make_targets(form, size=(9, 11))
    logits = torch.randn(len(IMAGE), 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: matched_mask_loss(x, targets, IMAGE, SEGMENT, ignore_void=True), logits)


def test_matched_mask_loss_compiles_whole():
    targets = make_targets("segments")

    def total(x):
        focal, dice = matched_mask_loss(x, targets, IMAGE, SEGMENT)
        return 20 * focal.sum() + dice.sum()

    x = torch.randn(len(IMAGE), *LOGITS, requires_grad=True)
    actual = torch.compile(total, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(actual, total(x))
    assert torch.equal(torch.autograd.grad(actual, x)[0], torch.autograd.grad(total(x), x)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matched_mask_loss_refuses_what_is_out_of_range(dtype):
    targets = make_targets("segments")
    logits = torch.randn(1, *LOGITS, dtype=dtype)
    index = lambda *values: torch.tensor(values)  # noqa: E731
    failures = (ValueError, RuntimeError)
    with pytest.raises(failures, match=r"image_index must lie in \[-1, 3\), got 3"):
        matched_mask_loss(logits, targets, index(3), index(0))
    with pytest.raises(failures, match=r"segment_index must lie in \[-1, 5\) for image 0, got 5"):
        matched_mask_loss(logits, targets, index(0), index(5))
    with pytest.raises(failures, match=r"segment_index must lie in \[-1, 0\) for image 1, got 0"):
        matched_mask_loss(logits, targets, index(1), index(0))
    for bad in (5, -2):
        targets.segment_map[0, 3, 4] = bad
        with pytest.raises(failures, match=r"segment_map must hold ids in \[-1, 5\) for image 0, got"):
            matched_mask_loss(logits, targets, index(0), index(0))
    many = make_targets("bool")
    many.num_segments[0] = 10
    with pytest.raises(failures, match=r"num_segments must lie in \[0, T\] with T = 9"):
        matched_mask_loss(logits, many, index(0), index(9))


def test_matched_mask_loss_errors_name_the_argument():
    targets, logits = make_targets("bool"), torch.randn(len(IMAGE), *LOGITS)
    with pytest.raises(ValueError, match=r"segment_index must be \(N,\) with N = 7, got \(6,\)"):
        matched_mask_loss(logits, targets, IMAGE, SEGMENT[1:])
    with pytest.raises(TypeError, match=r"image_index must be int64, got torch\.int32"):
        matched_mask_loss(logits, targets, IMAGE.int(), SEGMENT)
    with pytest.raises(TypeError, match="targets must be SegmentTargets or MaskTargets, got Tensor"):
        matched_mask_loss(logits, targets.masks, IMAGE, SEGMENT)
    without = MaskTargets(targets.masks, targets.labels, targets.num_segments)
    with pytest.raises(ValueError, match=r"targets\.void must be given with ignore_void=True"):
        matched_mask_loss(logits, without, IMAGE, SEGMENT, ignore_void=True)


@given(
    form=st.sampled_from(["segments", "bool", "float", "uint8"]),
    size=st.tuples(st.integers(1, 30), st.integers(1, 40)),
    target_size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    wide=st.booleans(),
    ignore_void=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_matched_mask_loss_of_any_sizes_equals_float64_reference(form, size, target_size, wide, ignore_void, seed):
    torch.manual_seed(seed)
    targets = make_targets(form, target_size, dtype=torch.int32 if wide else torch.int16)
    errors = errors_of(targets, 3 * torch.randn(len(IMAGE), *size), ignore_void=ignore_void)
    # The gradient of few samples adds up terms of both signs.
    assert max(errors.values()) <= (LARGEST_ERROR if min(size) > 4 else 1e-5), errors


@pytest.mark.parametrize("form", ["segments", "float"])
def test_matched_mask_loss_has_the_same_bits_for_any_number_of_threads(form):
    targets, logits = make_targets(form), 3 * torch.randn(len(IMAGE), *LOGITS)

    def run():
        x = logits.clone().requires_grad_()
        focal, dice = matched_mask_loss(x, targets, IMAGE, SEGMENT)
        return focal.detach(), dice.detach(), torch.autograd.grad(20 * focal.sum() + dice.sum(), x)[0]

    at_thread_counts(run)
