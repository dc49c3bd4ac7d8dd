// The logistic function of common/math.h in a GPU's own instructions, which save twelve per call.
#pragma once

#include "common/cuda_launch.cuh"
#include "common/math.h"

namespace maskformer_ext::cuda {

// exp(x) for x <= 0, as in common/math.h. Rounding x * log2(e) makes it wrong by up to |x| / 2 units in the last place.
// An interpolated x is itself as wrong.
__device__ __forceinline__ float fast_exp_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  float clamped, result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(clamped) : "f"(x), "f"(-87.0f));
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(clamped * 1.44269504f));
  return result;
#else
  return exp_nonpositive(x);
#endif
}

// 1 / x for x in [1, 2].
__device__ __forceinline__ float fast_reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1.0f / x;
#endif
}

// As logistic() of common/math.h.
__device__ __forceinline__ Logistic<float> fast_logistic(float x) {
  const float z = fast_exp_nonpositive(negative_magnitude(x));
  const float larger = fast_reciprocal(1.0f + z);
  const float smaller = z * larger;
  const float log_term = log1p_unit(z);
  const bool positive = x > 0.0f;
  return {positive ? larger : smaller, positive ? smaller : larger, fmaxf(x, 0.0f) + log_term,
          fmaxf(-x, 0.0f) + log_term};
}

}  // namespace maskformer_ext::cuda
