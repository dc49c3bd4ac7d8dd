// Converts runs of elements of any dtype to and from float, so that kernels compute in one type.
#pragma once

#include <cstdint>

#include "common/dtype.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Elements [begin, begin + count) as float; uint8 and bool become 0 and 1.
inline void load_floats(const void* from, DType dtype, int64_t begin, int64_t count, float* __restrict to) {
  if (dtype == DType::uint8) {
    const uint8_t* values = static_cast<const uint8_t*>(from) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = values[i] != 0 ? 1.0f : 0.0f;
    return;
  }
  for_float_type(dtype, [&](auto type) {
    const auto* values = static_cast<const decltype(type)*>(from) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = to_float(values[i]);
  });
}

inline void store_floats(const float* __restrict from, int64_t count, void* to, DType dtype, int64_t begin) {
  for_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    T* values = static_cast<T*>(to) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) values[i] = from_float<T>(from[i]);
  });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
