// Elementwise functions of the losses, one source for host and device.
//
// They are branch-free polynomials in float. They vectorise under `#pragma omp simd`, take FloatVec (vec.h) and let NaN
// through. The sigmoid is wrong by at most 6.2 units in the last place, and by 4.1 where |x| < 20. This was measured;
// test_sigmoid_accuracy.py holds it. The build never uses -ffast-math.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/cpu_dispatch.h"

#ifdef __CUDACC__
#define MASKFORMER_EXT_HD __host__ __device__ __forceinline__
#else
#define MASKFORMER_EXT_HD inline __attribute__((always_inline))
#include "common/vec.h"
#endif

// The host stand-in has twins of a GPU's functions, as inexact as those. Its build defines the name.
#ifdef __CUDA_ARCH__
#define MASKFORMER_EXT_GPU_FUNCTIONS
#elif defined(MASKFORMER_EXT_GPU_FUNCTIONS)
#include <cuda_runtime.h>
#endif

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// How many floats are added one after the other. Adding n equal ones can be wrong by n/2 units in the last place.
inline constexpr int64_t kFloatRun = 32;

// The bits of a float, or of each lane of a FloatVec, and back.
MASKFORMER_EXT_HD int32_t float_bits(float x) { return std::bit_cast<int32_t>(x); }
MASKFORMER_EXT_HD float bits_float(int32_t bits) { return std::bit_cast<float>(bits); }
#ifndef __CUDACC__
MASKFORMER_EXT_HD IntVec float_bits(FloatVec x) { return (IntVec)x; }
MASKFORMER_EXT_HD FloatVec bits_float(IntVec bits) { return (FloatVec)bits; }
#endif

// x, but no less than the limit, or no more than it. NaN stays NaN.
MASKFORMER_EXT_HD float at_least(float x, float limit) { return x < limit ? limit : x; }
MASKFORMER_EXT_HD float at_most(float x, float limit) { return x > limit ? limit : x; }

// -|x|.
template <class F>
MASKFORMER_EXT_HD F negative_magnitude(F x) {
#ifdef __CUDA_ARCH__
  return -fabsf(x);
#else
  return bits_float(float_bits(x) | INT32_MIN);
#endif
}

// exp(x) for x in [-87, 87]; NaN stays NaN.
template <class F>
MASKFORMER_EXT_HD F exp_within(F x) {
#ifdef MASKFORMER_EXT_GPU_FUNCTIONS
  return expf(x);
#else
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const F shifted = x * 1.44269504f + 12582912.0f;
  const F n = shifted - 12582912.0f;
#ifdef __FMA__
  const F r = x - n * 0.693147182f;  // the product is not rounded, so one constant is enough
#else
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts, the first product is exact
#endif
  F p = r * 8.290272206068039e-03f + 4.189816117286682e-02f;
  p = p * r + 1.666763871908188e-01f;
  p = p * r + 4.999914765357971e-01f;
  p = p * r + 9.999997019767761e-01f;
  p = p * r + 1.0f;
  return bits_float(float_bits(p) + (float_bits(shifted) << 23));
#endif
}

// exp(x) for x <= 0. Below -87 it stays at exp(-87), about 1.6e-38, so that no subnormal number arises.
template <class F>
MASKFORMER_EXT_HD F exp_nonpositive(F x) {
  return exp_within(at_least(x, -87.0f));
}

// log(1 + z) for z in [0, 1].
template <class F>
MASKFORMER_EXT_HD F log1p_unit(F z) {
  F q = z * 5.232691299170256e-03f - 2.950522676110268e-02f;
  q = q * z + 7.822593301534653e-02f;
  q = q * z - 1.366324424743652e-01f;
  q = q * z + 1.910600662231445e-01f;
  q = q * z - 2.484298199415207e-01f;
  q = q * z + 3.331909775733948e-01f;
  q = q * z - 4.999949336051941e-01f;
  q = q * z + 9.999999403953552e-01f;
  return q * z;
}

// 1 / x for x in [1, 2], also where x is NaN. An ordinary division on a GPU has a slow path, and its call keeps the
// loads of neighbouring pixels apart.
template <class F>
MASKFORMER_EXT_HD F reciprocal_of_one_to_two(F x) {
#ifdef MASKFORMER_EXT_GPU_FUNCTIONS
  return __fdividef(1.0f, x);
#else
  return 1.0f / x;
#endif
}

template <class F>
struct Logistic {
  F sigmoid;             // 1 / (1 + exp(-x))
  F sigmoid_complement;  // 1 - sigmoid, without cancellation
  F softplus;            // log(1 + exp(x)) = -log(sigmoid_complement)
  F softplus_negative;   // log(1 + exp(-x)) = -log(sigmoid)
};

// Both sides of the logistic function from one exponential, one division and one logarithm.
template <class F>
MASKFORMER_EXT_HD Logistic<F> logistic(F x) {
  const F z = exp_nonpositive(negative_magnitude(x));
  const F larger = reciprocal_of_one_to_two(1.0f + z);
  const F smaller = z * larger;
  const F log_term = log1p_unit(z);
  const F zero{};
  return {x > 0.0f ? larger : smaller, x > 0.0f ? smaller : larger, (x > 0.0f ? x : zero) + log_term,
          (x < 0.0f ? -x : zero) + log_term};
}

// Where only one side is wanted, two limits cost less than folding the sign away and back.
template <class F>
MASKFORMER_EXT_HD F sigmoid(F x) {
#ifdef __CUDA_ARCH__
  const F z = exp_nonpositive(negative_magnitude(x));
  const F larger = 1.0f / (1.0f + z);
  return x > 0.0f ? larger : z * larger;
#else
  return 1.0f / (1.0f + exp_within(-at_least(at_most(x, 87.0f), -87.0f)));
#endif
}

template <class F>
MASKFORMER_EXT_HD F softplus(F x) {
  return (x > 0.0f ? x : F{}) + log1p_unit(exp_nonpositive(negative_magnitude(x)));
}

template <class F>
struct FocalTerm {
  F loss;  // without the factor alpha (or 1 - alpha)
  F grad;  // d loss / d logit
};

// Focal loss of a pixel, (1 - p_t)^gamma * -log(p_t), as a function of how wrong its logit x is. For a negative pixel,
// pass the logistic function of x. For a positive one pass that of -x; grad is then that of -x too. (Lin et al. 2017,
// "Focal Loss for Dense Object Detection", equation 4.)
enum class Gamma { two, zero, general };

template <Gamma mode, class F>
MASKFORMER_EXT_HD FocalTerm<F> focal_wrong(const Logistic<F>& p, float gamma) {
  const F entropy = p.softplus;
  if constexpr (mode == Gamma::zero) return {entropy, p.sigmoid};
  F factor;  // sigmoid^gamma
  if constexpr (mode == Gamma::two) {
    gamma = 2.0f;
    factor = p.sigmoid * p.sigmoid;
  } else {
    factor = exp_nonpositive(-gamma * p.softplus_negative);
  }
  return {factor * entropy, factor * (gamma * (p.sigmoid_complement * entropy) + p.sigmoid)};
}

// base^gamma for base >= 0.
template <Gamma mode, class F>
MASKFORMER_EXT_HD F power(F base, float gamma) {
  if constexpr (mode == Gamma::zero) {
    return F{} + 1.0f;
  } else if constexpr (mode == Gamma::two) {
    return base * base;
  } else if constexpr (std::is_same_v<F, float>) {
    return std::pow(base, gamma);
  } else {
    F result{};
    for (unsigned lane = 0; lane < sizeof(F) / sizeof(float); ++lane) result[lane] = std::pow(base[lane], gamma);
    return result;
  }
}

// Terms of a pixel whose target t lies between 0 and 1. Here 1 - p_t is t (1 - s) + (1 - t) s. The cross-entropy is
// interpolated as well.
template <class F>
struct SoftPixel {
  F missing;  // t (1 - s)
  F excess;   // (1 - t) s
  F loss;     // the focal loss, with alpha
  F grad;     // d loss / d logit
};

template <Gamma mode, class F>
MASKFORMER_EXT_HD SoftPixel<F> soft_pixel(const Logistic<F>& p, F t, float alpha_inside, float alpha_outside,
                                          float gamma) {
  if constexpr (mode == Gamma::two) gamma = 2.0f;
  const F u = 1.0f - t;
  const F missing = t * p.sigmoid_complement, excess = u * p.sigmoid;
  const F wrong = missing + excess;
  const F zero{};  // a side without weight adds nothing, even where its logarithm is infinite
  const F entropy = (t != 0.0f ? t * p.softplus_negative : zero) + (u != 0.0f ? u * p.softplus : zero);
  const F factor = (alpha_inside * t + alpha_outside * u) * power<mode>(wrong, gamma);
  // Without the factor the slope is all of the gradient; where the entropy is infinite, 0 times it would be NaN.
  if constexpr (mode == Gamma::zero) return {missing, excess, factor * entropy, factor * (excess - missing)};
  const F not_zero = wrong < 1e-37f ? F{} + 1e-37f : wrong;
  const F slope = p.sigmoid * p.sigmoid_complement;
  return {missing, excess, factor * entropy,
          factor * ((excess - missing) + gamma * (u - t) * slope * (entropy / not_zero))};
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
