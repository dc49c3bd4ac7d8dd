// Conversions of rows of a few dozen elements, for which the loops of common/convert.h are too general.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Whole vectors, then fours, then single elements: loops whose length is a constant become a few instructions.
template <class Convert>
inline __attribute__((always_inline)) void for_short_row(int64_t count, Convert&& convert) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) convert(i + lane);
  }
  for (; i + 4 <= count; i += 4) {
#pragma omp simd
    for (int lane = 0; lane < 4; ++lane) convert(i + lane);
  }
  for (; i < count; ++i) convert(i);
}

template <class T>
inline void load_row(const T* __restrict from, int64_t count, float* __restrict to) {
  for_short_row(count, [&](int64_t i) __attribute__((always_inline)) { to[i] = to_float(from[i]); });
}

template <class T>
inline void store_row(const float* __restrict from, int64_t count, T* __restrict to) {
  for_short_row(count, [&](int64_t i) __attribute__((always_inline)) { to[i] = from_float<T>(from[i]); });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
