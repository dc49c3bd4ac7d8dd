// The logistic function of common/math.h in a GPU's own instructions, which save twelve per call.
#pragma once

#include <cmath>

#include "common/cuda_launch.cuh"
#include "common/math.h"

namespace maskformer_ext::cuda {

// 2^t to 2^-22, relatively. Results below 2^-126 are 0. The PTX ISA gives the error.
__device__ __forceinline__ float exp2_approximate(float t) {
#ifdef __CUDACC__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(t));
  return result;
#else
  return host_cuda::rounded(std::exp2(double{t}), 2.0, t);
#endif
}

// 1 / x to one unit in the last place. The division of CUDA also scales very large x.
__device__ __forceinline__ float reciprocal_approximate(float x) {
#ifdef __CUDACC__
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return host_cuda::rounded(1.0 / double{x}, 1.0, x);
#endif
}

// exp(x) for x <= 0, as in common/math.h. Rounding x * log2(e) makes it wrong by up to |x| / 2 units in the last place.
// An interpolated x is itself as wrong.
__device__ __forceinline__ float fast_exp_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  float clamped;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(clamped) : "f"(x), "f"(-87.0f));
#else
  const float clamped = x < -87.0f ? -87.0f : x;
#endif
  return exp2_approximate(clamped * 1.44269504f);
}

// As sigmoid() of common/math.h, to four units in the last place.
__device__ __forceinline__ float fast_sigmoid_of_any(float x) {
#ifdef __CUDA_ARCH__
  float limited;
  asm("max.NaN.f32 %0, %1, %2;\n\tmin.NaN.f32 %0, %0, %3;" : "=f"(limited) : "f"(x), "f"(-87.0f), "f"(87.0f));
#else
  const float limited = at_most(at_least(x, -87.0f), 87.0f);
#endif
  const float t = limited * -1.44269504f;
  const float rounding = fmaf(t, -0.693147182f, -limited);  // of t, times log 2
  const float power = exp2_approximate(t);
  return reciprocal_approximate(1.0f + fmaf(power, rounding, power));
}

// As logistic() of common/math.h.
__device__ __forceinline__ Logistic<float> fast_logistic(float x) {
  const float z = fast_exp_nonpositive(negative_magnitude(x));
  const float larger = reciprocal_approximate(1.0f + z);
  const float smaller = z * larger;
  const float log_term = log1p_unit(z);
  const bool positive = x > 0.0f;
  return {positive ? larger : smaller, positive ? smaller : larger, fmaxf(x, 0.0f) + log_term,
          fmaxf(-x, 0.0f) + log_term};
}

}  // namespace maskformer_ext::cuda
