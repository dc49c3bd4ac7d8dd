// The host stand-in for CUDA's header of this name: a 16-bit float.
#pragma once

#include "common/dtype.h"

struct __half {
  uint16_t bits;
};

inline float __half2float(__half x) {
  return maskformer_ext::MASKFORMER_EXT_VARIANT::to_float(maskformer_ext::Float16{x.bits});
}
inline __half __float2half_rn(float x) {
  return {maskformer_ext::MASKFORMER_EXT_VARIANT::from_float<maskformer_ext::Float16>(x).bits};
}
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
