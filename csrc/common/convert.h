// Converts runs of elements of any dtype to and from float, so that kernels compute in one type.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/vec.h"

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

// As load_floats, but without a copy of what is float already. Whole vectors may be read: `buffer` has room for them,
// and the elements themselves are given only where they fill vectors.
inline const float* as_floats(const void* from, DType dtype, int64_t begin, int64_t count, float* buffer) {
  if (dtype == DType::float32 && count % kLanes == 0) return static_cast<const float*>(from) + begin;
  load_floats(from, dtype, begin, count, buffer);
  return buffer;
}

inline void store_floats(const float* __restrict from, int64_t count, void* to, DType dtype, int64_t begin) {
  for_float_type(dtype, [&](auto type) {
    using T = decltype(type);
    T* values = static_cast<T*>(to) + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) values[i] = from_float<T>(from[i]);
  });
}

// Where to write `count` floats: in whole vectors to their place, if that holds floats, or else to `buffer`. Then
// store_floats_from copies them, if they are not in place.
inline float* floats_to(void* to, DType dtype, int64_t begin, int64_t count, float* buffer) {
  return dtype == DType::float32 && count % kLanes == 0 ? static_cast<float*>(to) + begin : buffer;
}
inline void store_floats_from(const float* from, const float* buffer, int64_t count, void* to, DType dtype,
                              int64_t begin) {
  if (from == buffer) store_floats(from, count, to, dtype, begin);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
