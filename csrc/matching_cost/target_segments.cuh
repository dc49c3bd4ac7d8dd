// The number of an image's segments, as all CUDA kernels of matching_cost read it.
#pragma once

#include "common/cuda_launch.cuh"
#include "matching_cost/matching_cost_cuda.h"

namespace maskformer_ext::cuda {

// Counts outside [0, segments] are clamped.
__device__ __forceinline__ int segments_of(const MatchingCostCudaParams& p, int64_t image) {
  const int64_t n = p.num_segments[image];
  return static_cast<int>(n < 0 ? 0 : (n > p.segments ? p.segments : n));
}

}  // namespace maskformer_ext::cuda
