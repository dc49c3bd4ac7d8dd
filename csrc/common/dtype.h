// Element types of the kernels, torch-free: a run-time tag, storage structs for the 16-bit floats, and conversions.
#pragma once

#include <bit>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "common/cpu_dispatch.h"

namespace maskformer_ext {

enum class DType : int32_t { float32, bfloat16, float16, uint8, float64 };

inline int64_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::uint8:
      return 1;
    case DType::bfloat16:
    case DType::float16:
      return 2;
    case DType::float32:
      return 4;
    default:
      return 8;
  }
}

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

namespace MASKFORMER_EXT_VARIANT {

inline float to_float(float x) { return x; }
inline float to_float(uint8_t x) { return static_cast<float>(x); }
inline float to_float(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
// Shifts exponent and fraction into place, rescales by 2^112, then restores infinity and NaN. The rescaling is exact,
// also for subnormals.
inline float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t value = magnitude >= 0x0f800000u ? (magnitude | 0x7f800000u) : scaled;
  return std::bit_cast<float>(value | sign);
}

template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
// Round to nearest even; NaN stays NaN.
template <>
inline BFloat16 from_float<BFloat16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? 0x7fc0u : rounded)};
}
// Normal results are rounded in integer arithmetic. Subnormal ones are rounded by adding a float whose unit in the last
// place is theirs.
template <>
inline Float16 from_float<Float16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // rounds beyond 65504
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  return {static_cast<uint16_t>(half | sign)};
}

// Calls body with a value of the storage type of a floating dtype. Only its type matters.
template <class Body>
void for_float_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::float32:
      return body(float{});
    case DType::bfloat16:
      return body(BFloat16{});
    case DType::float16:
      return body(Float16{});
    default:
      throw std::invalid_argument("maskformer_ext: not a floating dtype");
  }
}

}  // namespace MASKFORMER_EXT_VARIANT
}  // namespace maskformer_ext
