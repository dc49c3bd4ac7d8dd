"""What one benchmark compares: our call and its peers, on one set of inputs."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


def relative_error(result: Any, reference: Any) -> float:
    """Return the largest max|result - reference| / max|reference| over tensors, or sequences or dicts of them."""
    if isinstance(reference, dict):
        if result.keys() != reference.keys():
            raise ValueError(f"outputs must have the names {sorted(reference)}, got {sorted(result)}")
        return max(relative_error(result[name], value) for name, value in reference.items())
    if isinstance(reference, (tuple, list)):
        return max(relative_error(ours, theirs) for ours, theirs in zip(result, reference, strict=True))
    result, reference = result.detach().to(reference.device).double(), reference.detach().double()
    if result.shape != reference.shape:
        raise ValueError(f"outputs must have the shape {tuple(reference.shape)}, got {tuple(result.shape)}")
    return float((result - reference).abs().max() / reference.abs().max().clamp_min(1e-30))


@dataclass
class Case:
    """Our call and its peers, ready to run any number of times.

    Attributes:
        op: the name of the op or step, as in `benchmarks/bench_<op>.py`.
        title: the variant and its sizes, for the table.
        ours: our call; returns what `error` compares.
        peers: the same computation by others, by name. Ratios in prose refer to the first one.
        tolerance: the largest error at which results count as equal.
        inputs: tensors whose shapes and dtypes are recorded.
        error: (ours' result, peer's result) -> error; by default the relative error of all outputs.
        notes: facts that a reader of the figure must know, one sentence each.
        kernels: the native ops that our call is to run on, as prefixes of their names; by default `op`.
        no_peer: why `peers` is empty, if it is.
        forget: frees what calls leave behind, such as gradients, so that the memory of each call counts in full.
        too_large: peers that did not fit into the GPU's memory, and the bytes that torch had allocated by then.
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
    no_peer: str = "none fits into memory"
    forget: Callable[[], None] = lambda: None
    too_large: dict[str, int] = field(default_factory=dict)

    def errors(self) -> dict[str, float]:
        """Run everything once and return the error against each peer; raise where results do not agree.

        Peers that do not fit into the GPU's memory move from `peers` to `too_large`.
        """
        result, errors = self.ours(), {}
        for name, peer in list(self.peers.items()):
            if torch.cuda.is_initialized():
                torch.cuda.reset_peak_memory_stats()
            try:
                errors[name] = self.error(result, peer())
            except torch.OutOfMemoryError:
                self.too_large[name] = torch.cuda.max_memory_allocated()
            if name in self.too_large:  # only now has the exception let go of the peer's tensors
                del self.peers[name]
                torch.cuda.empty_cache()
        for name, error in errors.items():
            if not error <= self.tolerance:
                raise AssertionError(
                    f"{self.op} ({self.title}): error against {name} is {error:.2e}, above {self.tolerance:.0e}"
                )
        return errors

    def calls(self) -> dict[str, Callable[[], Any]]:
        """All calls by name, ours first."""
        return {"ours": self.ours, **self.peers}


def optional(name: str) -> Any:
    """Import a module that only a peer needs; None where it is not installed. That peer is then left out."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def peers_inputs(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors as a peer takes them: as float32 on a CPU, where autocast lacks operations."""
    return tuple(tensor.float() if tensor.device.type == "cpu" else tensor for tensor in tensors)


def peers_autocast(inputs: Tensor) -> Any:
    """Return the context in which a peer computes: on a GPU, torch's autocast to the inputs' half precision."""
    half = inputs.device.type == "cuda" and inputs.dtype in (torch.bfloat16, torch.float16)
    return torch.autocast("cuda", inputs.dtype) if half else contextlib.nullcontext()


def case_name(parameters: dict[str, Any]) -> str:
    """Return the name of a case in the list of tests, from the parameters that distinguish it."""
    return "-".join(str(value) if isinstance(value, str) else f"{key}{value}" for key, value in parameters.items())


def describe(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return each tensor's dtype and shape, as in `float32 (20, 128, 128)`."""
    return {name: f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for name, t in tensors.items()}
