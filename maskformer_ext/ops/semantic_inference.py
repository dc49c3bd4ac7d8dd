"""Class scores and class maps of one image, streamed over rows of the output."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks
from maskformer_ext.ops.support.library import NAMESPACE, native, register, without_autocast
from maskformer_ext.ops.support.predictions import check_prediction, class_probabilities
from maskformer_ext.ops.support.rows import Mapped, Rows, Stored, bands, first_argmax, resized

_RESIZE = ("logits", "scores")


def semantic_inference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    *,
    input_size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    flip: bool = False,
    resize: str = "logits",
) -> Tensor:
    """Return every pixel the class with the largest score, as ``semantic_scores`` defines it.

    Args:
        class_logits: (Q, K + 1) floating, the last column "no object".
        mask_logits: (Q, h, w) floating.
        size: output (H, W) in pixels.
        input_size: the padded network input (H, W); the logits are resized to it before ``size``.
        crop: the valid (H, W) of the network input, cut out before the resize to ``size``.
        flip: the predictions are of the mirrored image; mirror the result back.
        resize: "logits" resizes mask logits to ``size``; "scores" computes the scores at ``input_size`` (at (h, w)
            without it), then resizes them.

    Returns:
        (H, W) int64 class ids; the lowest of equal classes.

    Raises:
        TypeError: an input is not floating, or ``flip`` is no truth value.
        ValueError: shapes, sizes or devices do not fit, or ``resize`` is unknown.

    Source: MaskFormer (arXiv 2107.06278), section 3.4, semantic inference.
    """
    check_prediction("semantic_inference", class_logits, mask_logits, size, input_size, crop)
    checks.check_choice("semantic_inference", "resize", resize, _RESIZE)
    checks.check_flag("semantic_inference", flip=flip)
    class_logits, mask_logits = class_logits.detach(), mask_logits.detach()
    if native("semantic_inference", class_logits, mask_logits):
        probability, _ = class_probabilities(class_logits, mask_logits)
        return torch.ops.maskformer_ext.semantic_inference(
            probability[:, :-1], mask_logits, size, input_size, crop, flip, resize == "scores"
        )
    return _semantic_inference_reference(class_logits, mask_logits, size, input_size, crop, flip, resize)


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    *,
    input_size: Sequence[int] | None = None,
    crop: Sequence[int] | None = None,
    flip: bool = False,
    resize: str = "logits",
    out: Tensor | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Compute the score of every class at every pixel: sum over queries of softmax(class)[k] * sigmoid(mask).

    Args:
        class_logits: (Q, K + 1) floating, the last column "no object".
        mask_logits: (Q, h, w) floating.
        size: output (H, W) in pixels.
        input_size: the padded network input (H, W); the logits are resized to it before ``size``.
        crop: the valid (H, W) of the network input, cut out before the resize to ``size``.
        flip: the predictions are of the mirrored image; mirror the result back.
        resize: "logits" or "scores", as in ``semantic_inference``.
        out: (K, H, W) float32 that the scores are added to, for averages over several predictions.
        weight: factor of the scores.

    Returns:
        (K, H, W) float32: ``out``, or a new tensor. Scores are not normalised over classes. Queries with a NaN or +inf
        class logit or a non-finite mask logit count as absent.

    Raises:
        TypeError: an input is not floating, ``out`` is not float32, or an option is of another type.
        ValueError: shapes, sizes or devices do not fit, ``resize`` is unknown, or ``weight`` is not finite.

    Source: MaskFormer (arXiv 2107.06278), section 3.4, semantic inference.
    """
    op = "semantic_scores"
    check_prediction(op, class_logits, mask_logits, size, input_size, crop)
    checks.check_choice(op, "resize", resize, _RESIZE)
    checks.check_flag(op, flip=flip)
    checks.check_finite(op, weight=weight)
    shape = (class_logits.shape[1] - 1, *size)
    if out is None:
        out = class_logits.new_zeros(shape, dtype=torch.float32)
    checks.check_tensor(op, "out", out)
    checks.check_same_device(op, class_logits=class_logits, out=out)
    if out.dtype != torch.float32:
        raise TypeError(f"{op}: out must be float32, got {out.dtype}")
    if tuple(out.shape) != shape:
        raise ValueError(f"{op}: out must be (K, H, W) = {shape}, got {checks.shape(out)}")
    class_logits, mask_logits = class_logits.detach(), mask_logits.detach()
    if native("semantic_scores", class_logits, mask_logits) and out.is_contiguous():
        probability, _ = class_probabilities(class_logits, mask_logits)
        torch.ops.maskformer_ext.semantic_scores(
            probability[:, :-1], mask_logits, out, size, input_size, crop, flip, resize == "scores", float(weight)
        )
    else:
        _semantic_scores_reference(class_logits, mask_logits, out, size, input_size, crop, flip, resize, float(weight))
    return out


def _fake_labels(
    probability: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    flip: bool,
    scores_first: bool,
) -> Tensor:
    return mask_logits.new_empty(size, dtype=torch.int64)


def _fake_scores(*_: Any) -> None:
    return None


register("semantic_inference", fake=_fake_labels)
register("semantic_scores", fake=_fake_scores)


_ARGUMENTS = "SymInt[] size, SymInt[]? input_size, SymInt[]? crop, bool flip, str resize"


@torch.library.custom_op(
    f"{NAMESPACE}::semantic_inference_reference",
    mutates_args=(),
    schema=f"(Tensor class_logits, Tensor mask_logits, {_ARGUMENTS}) -> Tensor",
)
def _semantic_inference_reference(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    flip: bool,
    resize: str,
) -> Tensor:
    scores = _score_rows(class_logits, mask_logits, size, input_size, crop, flip, resize)
    labels = class_logits.new_empty(size, dtype=torch.int64)
    for begin, end, band in bands(scores):
        labels[begin:end] = first_argmax(band)[1]
    return labels


@_semantic_inference_reference.register_fake
def _(class_logits: Tensor, mask_logits: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return class_logits.new_empty(size, dtype=torch.int64)


@torch.library.custom_op(
    f"{NAMESPACE}::semantic_scores_reference",
    mutates_args=("out",),
    schema=f"(Tensor class_logits, Tensor mask_logits, Tensor(a!) out, {_ARGUMENTS}, float weight) -> ()",
)
def _semantic_scores_reference(
    class_logits: Tensor,
    mask_logits: Tensor,
    out: Tensor,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    flip: bool,
    resize: str,
    weight: float,
) -> None:
    for begin, end, band in bands(_score_rows(class_logits, mask_logits, size, input_size, crop, flip, resize)):
        out[:, begin:end].add_(band, alpha=weight)


_semantic_scores_reference.register_fake(_fake_scores)


def _score_rows(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
    flip: bool,
    resize: str,
) -> Rows:
    probability, finite = class_probabilities(class_logits, mask_logits)
    if not bool(finite.all()):  # absent queries stay, at weight 0
        mask_logits = mask_logits.where(finite.view(-1, 1, 1), 0)
    if len(mask_logits) == 0:
        mask_logits = mask_logits.new_zeros((1, *mask_logits.shape[1:]))  # interpolate refuses to resize nothing
        probability = probability.new_zeros((1, probability.shape[1]))
    weights = probability[:, :-1].t().contiguous()

    def to_scores(logits: Rows) -> Rows:
        def score(band: Tensor) -> Tensor:
            with without_autocast(band):
                return (weights.to(band.dtype) @ band.sigmoid().flatten(1)).unflatten(1, band.shape[1:])

        return Mapped(logits, len(weights), score)

    logits = Stored(mask_logits)
    if resize == "scores":
        return resized(logits, size, input_size=input_size, crop=crop, flip=flip, between=to_scores)
    return to_scores(resized(logits, size, input_size=input_size, crop=crop, flip=flip))
