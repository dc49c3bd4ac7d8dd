// Sums and other reductions over a warp and over a block, in a fixed order.
#pragma once

#include "common/cuda_launch.cuh"

namespace maskformer_ext::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// Every lane has the result.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Combines one value per thread, first within warps. Every thread has the result. All threads of the block call it.
template <int kThreads, class T, class Combine>
__device__ T block_reduce(T value, Combine combine) {
  constexpr int kWarps = kThreads / 32;
  MASKFORMER_EXT_SHARED(T, parts, kWarps);
  for (int bits = 16; bits > 0; bits /= 2) value = combine(value, __shfl_xor_sync(kAllLanes, value, bits));
  __syncthreads();  // an earlier result may still be read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  T result = parts[0];
  for (int warp = 1; warp < kWarps; ++warp) {
    const T part = parts[warp];
    result = combine(result, part);
  }
  return result;
}

}  // namespace maskformer_ext::cuda
