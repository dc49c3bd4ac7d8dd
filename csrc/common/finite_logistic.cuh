// Both sides of the logistic function and of softplus on a GPU, for finite logits.
//
// logistic() of math.h also takes infinities and lets NaN through, which costs comparisons. Who has to look for them
// anyhow calls this one. A result for a logit that is not finite means nothing.
#pragma once

#include <cmath>

#include "common/cuda_math.cuh"

namespace maskformer_ext::cuda {

// The logistic function of a logit, by its magnitude. For a positive logit, `larger` is its sigmoid.
struct LogisticOfMagnitude {
  float larger, smaller;    // 1 / (1 + z) and z / (1 + z) for z = exp(-|x|)
  float softplus_negative;  // log(1 + z) = softplus(-|x|)
};

__device__ __forceinline__ LogisticOfMagnitude logistic_of_magnitude(float x) {
  const float magnitude = fminf(fabsf(x), 1000.0f);  // z is 0 long before, and t must stay finite
  const float t = magnitude * -1.44269504f;
  const float rounding = fmaf(t, -0.693147182f, -magnitude);  // of t, times log 2
  const float power = exp2_approximate(t);
  const float z = fmaf(power, rounding, power);
  const float larger = reciprocal_approximate(1.0f + z);
  return {larger, z * larger, log1p_unit(z)};
}

}  // namespace maskformer_ext::cuda
