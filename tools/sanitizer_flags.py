"""Compiler flags and environment for the tools that test with AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess

FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment for a Python that loads libraries built with sanitizers."""
    # Two libraries must be loaded before Python: the sanitizer's, and the C++ library that throws exceptions.
    names = ("libasan.so", "libstdc++.so")
    found = [subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True) for name in names]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(one.stdout.strip() for one in found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch keep what they allocate until the end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        **variables,
    }
