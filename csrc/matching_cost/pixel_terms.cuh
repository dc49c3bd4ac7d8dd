// What a pixel adds to the sums of matching_cost on a GPU.
#pragma once

#include "common/finite_logistic.cuh"

namespace maskformer_ext::cuda {

// Focal terms lack the factors alpha and 1 - alpha.
struct PixelTerms {
  float positive;    // the focal loss of a pixel inside
  float negative;    // that of one outside
  float foreground;  // sigmoid
  float background;  // 1 - sigmoid, without cancellation
};

// The terms of a finite logit. kSquare: gamma is 2.
template <bool kSquare>
__device__ __forceinline__ PixelTerms pixel_terms(float x, float gamma) {
  const LogisticOfMagnitude l = logistic_of_magnitude(x);
  const float softplus = l.softplus_negative + fabsf(x);
  float larger_power, smaller_power;
  if constexpr (kSquare) {
    larger_power = l.larger * l.larger;
    smaller_power = l.smaller * l.smaller;
  } else {  // s^gamma = exp(gamma * log s)
    larger_power = expf(-gamma * l.softplus_negative);
    smaller_power = expf(-gamma * softplus);
  }
  const float little = smaller_power * l.softplus_negative, much = larger_power * softplus;
  const bool above = x > 0.0f;
  return {above ? little : much, above ? much : little, above ? l.larger : l.smaller, above ? l.smaller : l.larger};
}

}  // namespace maskformer_ext::cuda
