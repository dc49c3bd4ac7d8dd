"""Compute every op on its sample inputs and save the results, or compare two such files (see abi.py)."""

import sys
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).resolve().parent.parent / "python_tests" / "ops"


def compute() -> dict[str, np.ndarray]:
    """Return the results of every op, and gradients, in float32 and bfloat16, on inputs that NumPy draws."""
    import torch

    sys.path.append(str(SAMPLES))  # the package itself is the installed one
    from op_samples import native_calls, samples, tensors_of

    from maskformer_ext.ops import catalog
    from maskformer_ext.ops.support import library

    assert library.CPU_ERROR is None and not library.REFERENCE, library.CPU_ERROR
    found: dict[str, np.ndarray] = {}

    def keep(name: str, result: object) -> None:
        for index, tensor in enumerate(tensors_of(result)):
            wide = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
            found[f"{name}/{index}"] = wide.numpy()

    for op in catalog.OPS:
        for name, calls in native_calls(op, large=True).items():
            if op.through_torch and name.endswith("_backward"):
                continue
            for index, arguments in enumerate(calls):
                result = getattr(torch.ops.maskformer_ext, name)(*arguments)
                # An op without a result writes into its arguments.
                keep(f"native {name}/{index}", arguments if result is None else result)
        if op.values or op.through_torch:
            continue
        for sample in samples(op, large=True):
            for dtype in (torch.float32, torch.bfloat16):
                inputs = {name: x.to(dtype) for name, x in sample.floating.items()}
                wanted = [inputs[name].requires_grad_() for name in sample.differentiable if op.differentiable]
                out = tensors_of(sample(**inputs))
                keep(f"{sample.name}/{dtype}", out)
                if wanted:
                    total = torch.stack([part.float().sum() for part in out]).sum()
                    keep(f"gradient of {sample.name}/{dtype}", torch.autograd.grad(total, wanted))
    return found


def _error(a: np.ndarray, b: np.ndarray) -> float:
    if a.size == 0:
        return 0.0 if a.shape == b.shape else np.inf
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(a.astype(np.float64)).max(), 1e-300))


def compare(first: str, second: str) -> str:
    """Return a line on how many results are equal bit for bit. Exit at one that differs by more than rounding."""
    a, b = np.load(first), np.load(second)
    assert set(a) == set(b), set(a) ^ set(b)
    worst = {name: _error(a[name], b[name]) for name in a}
    for name, error in worst.items():
        if not error <= 2e-6:
            sys.exit(f"abi: {name} differs by {error:.1e} of its largest value")
    same = sum(np.array_equal(a[name], b[name]) for name in a)
    return f"{same} of {len(worst)} results equal bit for bit, largest difference {max(worst.values()):.1e}"


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        print(compare(sys.argv[2], sys.argv[3]))
    else:
        np.savez(sys.argv[1], allow_pickle=False, **compute())
