// The host stand-in for CUDA's header of this name: a 16-bit float.
#pragma once

#include "common/dtype.h"

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  return maskformer_ext::MASKFORMER_EXT_VARIANT::to_float(maskformer_ext::BFloat16{x.bits});
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return {maskformer_ext::MASKFORMER_EXT_VARIANT::from_float<maskformer_ext::BFloat16>(x).bits};
}
