"""What one benchmark compares: our call and its peers, on one set of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def relative_error(result: Any, reference: Any) -> float:
    """Largest of max|result - reference| / max|reference| over tensors (or sequences and dicts of tensors)."""
    if isinstance(reference, dict):
        if result.keys() != reference.keys():
            raise ValueError(f"outputs must have the names {sorted(reference)}, got {sorted(result)}")
        return max(relative_error(result[name], value) for name, value in reference.items())
    if isinstance(reference, (tuple, list)):
        return max(relative_error(ours, theirs) for ours, theirs in zip(result, reference, strict=True))
    result, reference = result.detach().double(), reference.detach().double()
    if result.shape != reference.shape:
        raise ValueError(f"outputs must have the shape {tuple(reference.shape)}, got {tuple(result.shape)}")
    return float((result - reference).abs().max() / reference.abs().max().clamp_min(1e-30))


@dataclass
class Case:
    """Our call and its peers, ready to run any number of times.

    Attributes:
        op: the name of the op or step, as in `benchmarks/bench_<op>.py`.
        title: what the table shows: the variant and its sizes.
        ours: our call; returns what `error` compares.
        peers: the same computation by others, by name; the first one is the one that ratios in prose refer to.
        tolerance: the largest error at which results count as equal.
        inputs: tensors whose shapes and dtypes are recorded.
        error: (ours' result, peer's result) -> error; by default the relative error of all outputs.
        notes: facts a reader of the figure must know, one sentence each.
        kernels: native ops that our call is to run on, by the beginning of their names; by default `op`.
    """

    op: str
    title: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any]]
    tolerance: float
    inputs: dict[str, Tensor]
    error: Callable[[Any, Any], float] = relative_error
    notes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def errors(self) -> dict[str, float]:
        """Run everything once and return the error against each peer; raise where results do not agree."""
        result = self.ours()
        errors = {name: self.error(result, peer()) for name, peer in self.peers.items()}
        for name, error in errors.items():
            if not error <= self.tolerance:
                raise AssertionError(
                    f"{self.op} ({self.title}): error against {name} is {error:.2e}, above {self.tolerance:.0e}"
                )
        return errors

    def calls(self) -> dict[str, Callable[[], Any]]:
        """All calls by name, ours first."""
        return {"ours": self.ours, **self.peers}


def describe(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Write each tensor as dtype and shape, `float32 (20, 128, 128)`."""
    return {name: f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for name, t in tensors.items()}


def synchronize(tensors: Iterable[Tensor]) -> Callable[[], None]:
    """Return what waits for the device of these tensors: nothing on a CPU."""
    if any(tensor.device.type == "cuda" for tensor in tensors):
        return torch.cuda.synchronize
    return lambda: None
