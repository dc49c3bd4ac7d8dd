"""Which devices multiply bfloat16 natively; apart from the network's code, which a program runs without."""

from __future__ import annotations

from functools import cache

import torch


@cache
def multiplies_bf16(device_type: str) -> bool:
    """Return whether a device has instructions for products of bfloat16; elsewhere they are slower than float32's."""
    if device_type != "cpu":
        return True
    facts = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(bool(facts.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
