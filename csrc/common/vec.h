// Vectors of the width that an instruction set has, for the few loops that must keep many sums in registers.
//
// They are GCC's and Clang's vector extension. Arithmetic, comparison and `mask ? a : b` work as on scalars, so the
// templates of math.h take float and FloatVec alike.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/cpu_dispatch.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float FloatVec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));

template <class Vec, class Element>
inline __attribute__((always_inline)) Vec load(const Element* from) {
  Vec vec;
  std::memcpy(&vec, from, sizeof(vec));
  return vec;
}

inline __attribute__((always_inline)) void store(float* to, FloatVec vec) { std::memcpy(to, &vec, sizeof(vec)); }

// All lanes are x. x - 0 is x for every x, so no subtraction is left. 0 + x would not be: it is 0 for -0.
inline __attribute__((always_inline)) FloatVec broadcast(float x) { return x - FloatVec{}; }

// 0, 1, 2 ...
inline __attribute__((always_inline)) IntVec lane_numbers() {
  IntVec result{};
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = lane;
  return result;
}

// a * b + c, rounded once where the processor can. The compiler may fuse a sum of two products in two ways; this says
// which.
inline __attribute__((always_inline)) FloatVec multiply_add(FloatVec a, FloatVec b, FloatVec c) {
#if defined(__AVX512F__)
  return (FloatVec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (FloatVec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// Each lane of x, but no less than the limit, or no more than it. NaN stays NaN: the instructions return their second
// operand where the two do not compare.
inline __attribute__((always_inline)) FloatVec at_least(FloatVec x, float limit) {
#if defined(__AVX512F__)
  return (FloatVec)_mm512_maskz_max_ps(0xffff, (__m512)broadcast(limit), (__m512)x);  // plain: GCC 12 warns
#elif defined(__AVX2__)
  return (FloatVec)_mm256_max_ps((__m256)broadcast(limit), (__m256)x);
#elif defined(__x86_64__)
  return (FloatVec)_mm_max_ps((__m128)broadcast(limit), (__m128)x);
#else
  return x < limit ? broadcast(limit) : x;
#endif
}
inline __attribute__((always_inline)) FloatVec at_most(FloatVec x, float limit) {
#if defined(__AVX512F__)
  return (FloatVec)_mm512_maskz_min_ps(0xffff, (__m512)broadcast(limit), (__m512)x);
#elif defined(__AVX2__)
  return (FloatVec)_mm256_min_ps((__m256)broadcast(limit), (__m256)x);
#elif defined(__x86_64__)
  return (FloatVec)_mm_min_ps((__m128)broadcast(limit), (__m128)x);
#else
  return x > limit ? broadcast(limit) : x;
#endif
}

// Lane i of the result is lane index[i] of vec. Every index is in [0, kLanes).
inline __attribute__((always_inline)) FloatVec permute(FloatVec vec, IntVec index) {
#if defined(__AVX512F__)
  return (FloatVec)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)index, (__m512)vec);  // plain: GCC 12 warns
#elif defined(__AVX2__)
  return (FloatVec)_mm256_permutevar8x32_ps((__m256)vec, (__m256i)index);
#else
  FloatVec result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = vec[index[lane]];
  return result;
#endif
}

// Lane i of the result is lane index[i] of the lanes of a, followed by those of b. The index should be known to the
// compiler.
inline __attribute__((always_inline)) FloatVec shuffle(FloatVec a, FloatVec b, IntVec index) {
#if defined(__clang__)
  FloatVec result;
  for (int lane = 0; lane < kLanes; ++lane)
    result[lane] = index[lane] < kLanes ? a[index[lane]] : b[index[lane] - kLanes];
  return result;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// Bit i is set where lane i of a comparison is true.
inline __attribute__((always_inline)) uint32_t true_lanes(IntVec comparison) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)comparison);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)comparison));
#else
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= (static_cast<uint32_t>(comparison[lane]) & 1u) << lane;
  return bits;
#endif
}

// The sum of the lanes, in halves, so that its order is fixed.
inline float sum_lanes(FloatVec vec) {
  float lane[kLanes];
  store(lane, vec);
  for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma omp simd
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

// The largest lane.
inline __attribute__((always_inline)) float max_lanes(FloatVec vec) {
#if defined(__AVX512F__)
  __m256 halves[2];
  std::memcpy(halves, &vec, sizeof(vec));
  const __m256 half = _mm256_max_ps(halves[0], halves[1]);
#elif defined(__AVX2__)
  const __m256 half = (__m256)vec;
#endif
#if defined(__AVX2__)
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
#else
  float largest = vec[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = vec[lane] > largest ? vec[lane] : largest;
  return largest;
#endif
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
