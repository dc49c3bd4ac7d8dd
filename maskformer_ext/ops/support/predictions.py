"""What the inference ops share: argument checks, and which queries count."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from maskformer_ext.ops.support import checks

_LONGEST = 1 << 31  # pixels along a side: what the kernels' indices can tell


def check_prediction(
    op: str,
    class_logits: Tensor,
    mask_logits: Tensor,
    size: Sequence[int],
    input_size: Sequence[int] | None,
    crop: Sequence[int] | None,
) -> None:
    """Raise TypeError or ValueError unless one image's predictions and the sizes fit together."""
    checks.check_floating(op, class_logits=class_logits, mask_logits=mask_logits)
    checks.check_same_device(op, class_logits=class_logits, mask_logits=mask_logits)
    if mask_logits.dim() != 3 or 0 in mask_logits.shape[1:]:
        raise ValueError(f"{op}: mask_logits must be (Q, h, w) with pixels, got {checks.shape(mask_logits)}")
    queries = mask_logits.shape[0]
    if class_logits.dim() != 2 or class_logits.shape[0] != queries or class_logits.shape[1] < 2:
        raise ValueError(
            f"{op}: class_logits must be (Q, K + 1) with Q = {queries}, as mask_logits, and K >= 1, "
            f"got {checks.shape(class_logits)}"
        )
    check_size(op, "size", size)
    if input_size is not None:
        check_size(op, "input_size", input_size)
    if crop is not None:
        check_size(op, "crop", crop)
        if input_size is None:
            raise ValueError(f"{op}: crop is in pixels of input_size, which must be given with it, got None")
        if crop[0] > input_size[0] or crop[1] > input_size[1]:
            raise ValueError(f"{op}: crop must lie inside input_size {tuple(input_size)}, got {tuple(crop)}")


def check_size(op: str, name: str, size: Sequence[int]) -> None:
    """Raise TypeError or ValueError unless the size is a pair of positive integers."""
    single = getattr(size, "shape", None) == ()  # a tensor or an array without dimensions has no length
    ordered = hasattr(size, "__len__") and hasattr(size, "__getitem__") and not isinstance(size, str | bytes | Mapping)
    if single or not ordered:
        raise TypeError(f"{op}: {name} must be (height, width), got {checks.shown(size)}")
    if len(size) != 2 or any(not 1 <= checks.whole_number(op, name, extent) < _LONGEST for extent in size):
        raise ValueError(f"{op}: {name} must be (height, width), each from 1 to 2^31 - 1, got {checks.shown(size)}")


def class_probabilities(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(class_logits) (Q, K + 1), and which queries count (Q,) bool: those with finite numbers only.

    -inf class logits (classes that were masked out) are legal. Rows of absent queries are 0.
    """
    flat = mask_logits.flatten(1)  # its extremes are finite only if all of it is, and need no temporaries
    finite = class_logits.amax(-1).isfinite() & flat.amax(-1).isfinite() & flat.amin(-1).isfinite()
    dtype = torch.float64 if class_logits.dtype == torch.float64 else torch.float32
    return class_logits.to(dtype).softmax(-1).where(finite.unsqueeze(-1), 0), finite
