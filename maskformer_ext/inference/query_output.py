"""The network's output for one image, whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class QueryOutput:
    """The network's output for one image.

    Attributes:
        class_logits: (Q, K + 1), or None for a per-pixel baseline.
        mask_logits: (Q, h, w); for a per-pixel baseline the class logits (K, h, w).
        input_size: height and width of the padded network input.
        crop: height and width of the image in it.
    """

    class_logits: Tensor | None
    mask_logits: Tensor
    input_size: tuple[int, int]
    crop: tuple[int, int]


def require_queries(output: QueryOutput) -> Tensor:
    """Return the class logits of the queries (Q, K + 1).

    Raises:
        ValueError: if the output is that of a per-pixel baseline.
    """
    if output.class_logits is None:
        raise ValueError('segment: task must be "semantic" for a per-pixel baseline, which has no queries')
    return output.class_logits
