// Sums of several values at once over a warp, in a fixed order.
#pragma once

#include "common/cuda_block.cuh"

namespace maskformer_ext::cuda {

// Sums kValues values over a warp, a power of two up to 32. Lane l has the sum of value l / (32 / kValues).
//
// Each step halves the values of a lane: a lane sends the half that it does not keep. That is kValues - 1 additions
// and one for each step that is left. Sums one after the other would take 5 * kValues.
template <int kValues, int kBits = 16, class T>
__device__ __forceinline__ T warp_sums(const T (&values)[kValues]) {
  static_assert(kValues >= 1 && kValues <= 32 && (kValues & (kValues - 1)) == 0);
  constexpr int kept = kValues > 1 ? kValues / 2 : 1;
  T half[kept];
  const bool upper = (threadIdx.x & kBits) != 0;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const T keep = upper && kValues > 1 ? values[kValues - kept + i] : values[i];
    const T give = upper ? values[i] : values[kValues - kept + i];
    half[i] = keep + __shfl_xor_sync(kAllLanes, give, kBits);
  }
  if constexpr (kBits == 1) {
    return half[0];
  } else {
    return warp_sums<kept, kBits / 2>(half);
  }
}

}  // namespace maskformer_ext::cuda
