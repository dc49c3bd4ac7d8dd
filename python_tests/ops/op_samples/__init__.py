"""Sample calls of every op, one module per op: what the tests of all ops and tools/abi_results.py run.

A module holds two functions of `Inputs`, which has small or large tensors:

* `samples` returns calls of the public functions;
* `native_calls` returns, per native op, the arguments of one or several calls.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskformer_ext.ops import SegmentTargets, catalog
from maskformer_ext.ops.support.batch_targets import BatchTargets


@dataclass(frozen=True)
class Sample:
    """A call of a public op.

    Attributes:
        name: of the op and what is special, for instance "mask_dot, sigmoid".
        function: the public op.
        floating: its floating tensors by the names of its parameters; a test may change dtype, device or layout.
        rest: everything else that it is given, by name.
        wrt: those of `floating` that it is differentiable in; by default all.
    """

    name: str
    function: Callable[..., Any]
    floating: dict[str, Tensor]
    rest: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()

    def __call__(self, **changed: Any) -> Any:
        """Call the op, with some arguments changed."""
        return self.function(**{**self.floating, **self.rest, **changed})

    def to(self, *, dtype: torch.dtype | None = None, device: str = "cpu") -> Sample:
        """Return the same call with other floating tensors, all of it on a device."""
        floating = {name: x.to(device, dtype) for name, x in self.floating.items()}
        moves = Tensor | BatchTargets
        return replace(
            self,
            floating=floating,
            rest={name: x.to(device) if isinstance(x, moves) else x for name, x in self.rest.items()},
        )

    @property
    def differentiable(self) -> tuple[str, ...]:
        """The names of the tensors that gradients flow to."""
        return self.wrt or tuple(self.floating)


class Inputs:
    """Tensors that fit together; NumPy draws them, so that they do not depend on torch.

    Attributes:
        class_logits: (2, 3, 5), two images with three queries; masks: (2, 3, 4, 4) logits; both larger if `large`.
        embed, features: (2, 3, 6) and (2, 6, 4, 4).
        targets: two images of 8 x 8 pixels with two segments each.
        image, segment: the pairs of three masks, the last of which has none.
    """

    def __init__(self, *, large: bool = False) -> None:
        self._random = np.random.default_rng(0)
        self.queries, self.classes, segments = (12, 5, 7) if large else (3, 4, 2)
        self.size, self.full = ((24, 40), (96, 150)) if large else ((4, 4), (8, 8))
        self.out = (61, 90) if large else (9, 7)
        self.input_size, self.crop = ((96, 160), (90, 140)) if large else ((8, 8), (7, 6))
        self.channels = 16 if large else 6
        self.class_logits = self.draw(2, self.queries, self.classes + 1)
        self.masks = self.draw(2, self.queries, *self.size)
        self.embed, self.features = self.draw(2, self.queries, self.channels), self.draw(2, self.channels, *self.size)
        segment_map = self._random.integers(-1, segments, (2, *self.full)).astype(np.int32)
        labels = self._random.integers(0, self.classes, (2, segments))
        self.targets = SegmentTargets(
            torch.from_numpy(segment_map), torch.from_numpy(labels), torch.full((2,), segments)
        )
        self.image, self.segment = torch.arange(self.queries) % 2, torch.arange(self.queries) % segments
        self.image[-1] = self.segment[-1] = -1
        self.inside = torch.from_numpy(self._random.random((self.queries, *self.full)) > 0.6)

    def draw(self, *shape: int) -> Tensor:
        """Return normal numbers."""
        return torch.from_numpy(self._random.standard_normal(shape, dtype=np.float32))

    @property
    def probability(self) -> Tensor:
        """The class probabilities of the first image, computed without torch."""
        exponential = np.exp(self.class_logits[0].numpy())
        return torch.from_numpy(exponential / exponential.sum(1, keepdims=True))


def samples(op: catalog.Op, *, large: bool = False) -> list[Sample]:
    """Return the sample calls of an op's public functions."""
    return importlib.import_module(f"op_samples.{op.name}").samples(Inputs(large=large))


def native_calls(op: catalog.Op, *, large: bool = False) -> dict[str, list[tuple]]:
    """Return the arguments of sample calls of each native op of an op."""
    return importlib.import_module(f"op_samples.{op.name}").native_calls(Inputs(large=large))


def all_samples(*, differentiable: bool | None = None, values: bool | None = None) -> list[Any]:
    """Return the small samples of all ops, or of those with a property, as parameters of a test."""
    import pytest

    return [
        pytest.param(sample, id=sample.name)
        for op in catalog.OPS
        if differentiable in (None, op.differentiable) and values in (None, op.values)
        for sample in samples(op)
    ]


def tensors_of(result: Any) -> list[Tensor]:
    """Return the tensors of a result, however they are packed."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in tensors_of(part)]
    return tensors_of(list(vars(result).values())) if hasattr(result, "__dataclass_fields__") else []
