// Elementwise functions of the losses, one source for host and device.
//
// Branch-free float polynomials that vectorise under `#pragma omp simd`. Each is right to about two units in the last
// place over all of float, and lets NaN through; the build never uses -ffast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "common/cpu_dispatch.h"

#ifdef __CUDACC__
#define MASKFORMER_EXT_HD __host__ __device__ __forceinline__
#else
#define MASKFORMER_EXT_HD inline __attribute__((always_inline))
#endif

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// exp(x) for x <= 0; zero where the result would be subnormal.
MASKFORMER_EXT_HD float exp_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  constexpr float smallest = -87.33654f;  // log of the smallest normal float
  const float clamped = x < smallest ? smallest : x;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const float shifted = clamped * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
  float q = 1.392617612e-03f;
  q = q * r + 8.363173075e-03f;
  q = q * r + 4.166655466e-02f;
  q = q * r + 1.666657703e-01f;
  q = q * r + 0.5f;
  const float p = (r * r) * q + r + 1.0f;
  const float scale = std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
  return x < smallest ? 0.0f : p * scale;
#endif
}

// log(1 + z) for z in [0, 1].
MASKFORMER_EXT_HD float log1p_unit(float z) {
#ifdef __CUDA_ARCH__
  return log1pf(z);
#else
  float q = -4.466211601e-03f;
  q = q * z + 2.522405435e-02f;
  q = q * z - 6.675772506e-02f;
  q = q * z + 1.156184545e-01f;
  q = q * z - 1.584756572e-01f;
  q = q * z + 1.985410623e-01f;
  q = q * z - 2.498652617e-01f;
  q = q * z + 3.333284189e-01f;
  q = q * z - 4.999999698e-01f;
  return (z * z) * q + z;
#endif
}

struct Logistic {
  float sigmoid;             // 1 / (1 + exp(-x))
  float sigmoid_complement;  // 1 - sigmoid, without cancellation
  float softplus;            // log(1 + exp(x)) = -log(sigmoid_complement)
  float softplus_negative;   // log(1 + exp(-x)) = -log(sigmoid)
};

// Both sides of the logistic function from one exponential, one division and one logarithm.
MASKFORMER_EXT_HD Logistic logistic(float x) {
  const float z = exp_nonpositive(-std::fabs(x));
  const float larger = 1.0f / (1.0f + z);
  const float smaller = z * larger;
  const float log_term = log1p_unit(z);
  const bool positive = x > 0.0f;
  return {positive ? larger : smaller, positive ? smaller : larger, (positive ? x : 0.0f) + log_term,
          (positive ? 0.0f : -x) + log_term};
}

MASKFORMER_EXT_HD float sigmoid(float x) {
  const float z = exp_nonpositive(-std::fabs(x));
  const float larger = 1.0f / (1.0f + z);
  return x > 0.0f ? larger : z * larger;
}

MASKFORMER_EXT_HD float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1p_unit(exp_nonpositive(-std::fabs(x))); }

struct FocalTerm {
  float loss;  // without the factor alpha (or 1 - alpha)
  float grad;  // d loss / d logit
};

// Focal loss of a positive pixel: (1 - s)^2 * -log(s), and of a negative one, which is the positive one of -x.
// (Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4, gamma 2.)
MASKFORMER_EXT_HD FocalTerm focal2_positive(const Logistic& p) {
  const float c = p.sigmoid_complement;
  return {c * c * p.softplus_negative, -c * c * (2.0f * p.sigmoid * p.softplus_negative + c)};
}
MASKFORMER_EXT_HD FocalTerm focal2_negative(const Logistic& p) {
  const float s = p.sigmoid;
  return {s * s * p.softplus, s * s * (2.0f * p.sigmoid_complement * p.softplus + s)};
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
