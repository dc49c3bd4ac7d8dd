// Transposes squares of floats in registers.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Swaps rows and columns of a square: in every step, pairs of rows swap halves of blocks of 2 * step lanes.
inline __attribute__((always_inline)) void transpose(FloatVec (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    IntVec first{}, second{};  // lanes of the first row, then of the second
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) {
      first[lane] = lane & step ? lane - step + kLanes : lane;
      second[lane] = lane & step ? lane + kLanes : lane + step;
    }
#pragma GCC unroll 16
    for (int row = 0; row < kLanes; ++row) {
      if (row & step) continue;
      const FloatVec a = rows[row], b = rows[row + step];
      rows[row] = shuffle(a, b, first);
      rows[row + step] = shuffle(a, b, second);
    }
  }
}

// As many elements as a vector has, as floats.
template <class T>
inline __attribute__((always_inline)) FloatVec load_as_floats(const T* from) {
  float lanes[kLanes];
#pragma omp simd
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = to_float(from[lane]);
  return load<FloatVec>(lanes);
}

// Writes kLanes rows of `count` elements, `row_stride` apart, as columns of `to`: element i of row r becomes
// to[i * to_stride + r].
template <class T>
inline void transpose_rows(const T* from, int64_t row_stride, int64_t count, float* to, int64_t to_stride) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    FloatVec square[kLanes];
#pragma GCC unroll 16
    for (int row = 0; row < kLanes; ++row) square[row] = load_as_floats(from + row * row_stride + i);
    transpose(square);
#pragma GCC unroll 16
    for (int row = 0; row < kLanes; ++row) store(to + (i + row) * to_stride, square[row]);
  }
  for (; i < count; ++i) {
    for (int row = 0; row < kLanes; ++row) to[i * to_stride + row] = to_float(from[row * row_stride + i]);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
