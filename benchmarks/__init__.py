"""Benchmarks against the functions that users would otherwise call; `pytest benchmarks` runs them."""
