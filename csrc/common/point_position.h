// Where a point of a map lies in pixels, rounded as torch rounds it on every instruction set and on a GPU.
//
// A point on the centre of a pixel lies on a kink of the interpolation. Rounding alone decides there which pixels are
// its neighbours, and with them the gradient of its place. One source for host and device, torch-free.
#pragma once

#include <cmath>

#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// a * b + c, rounded once. Without an instruction for it in float64, where the product is exact.
MASKFORMER_EXT_HD float multiply_add_exactly(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__)
  return std::fma(a, b, c);
#else
  return static_cast<float>(static_cast<double>(a) * b + c);
#endif
}

// a * b + c, rounded twice, as two operations of torch round it. Compilers would fuse the two.
MASKFORMER_EXT_HD float multiply_then_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b) + c;
#else
  return static_cast<float>(static_cast<double>(a) * b) + c;
#endif
}

#ifndef __CUDACC__
MASKFORMER_EXT_HD FloatVec multiply_add_exactly(FloatVec a, FloatVec b, FloatVec c) {
#if defined(__AVX512F__)
  return (FloatVec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (FloatVec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  FloatVec result{};
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = multiply_add_exactly(a[lane], b[lane], c[lane]);
  return result;
#endif
}

MASKFORMER_EXT_HD FloatVec multiply_then_add(FloatVec a, FloatVec b, FloatVec c) {
#if defined(__FMA__)
  FloatVec product = a * b;
  asm("" : "+v"(product));  // no instruction, but the product is a number of its own
  return product + c;
#else
  FloatVec result{};
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = multiply_then_add(a[lane], b[lane], c[lane]);
  return result;
#endif
}
#endif

// Where a coordinate in [0, 1] lies in pixels, counted from the centre of the first one. The same as grid_sample
// computes for 2 * coordinate - 1 with align_corners=False. F is float or FloatVec, the size is either.
template <class F, class Size>
MASKFORMER_EXT_HD F point_position(F coordinate, Size size) {
  const F grid = 2.0f * coordinate - 1.0f;
  return multiply_add_exactly(grid + 1.0f, 0.5f * size - F{}, -0.5f - F{});  // x - 0 is x in every lane
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
