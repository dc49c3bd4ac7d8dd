#!/usr/bin/env bash
# Prints registers, spills and shared memory of each CUDA kernel, for sm_90.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nvcc >/dev/null || { echo "cuda-report: nvcc is not on PATH"; exit 1; }
for source in csrc/*/*.cu; do
  echo "== $source"
  nvcc -std=c++20 -O3 --expt-relaxed-constexpr -arch=sm_90 -Xptxas=-v -Icsrc -c "$source" -o /dev/null 2>&1 |
    c++filt |
    sed -nE "s/^ptxas info *: Compiling entry function '([^']*)'.*/  \1/p; s/^ptxas info *: (Used.*)/      \1/p; s/^ +([0-9]+ bytes stack.*)/      \1/p"
done
