// Reads the sample of a map at a point in a CUDA kernel.
#pragma once

#include "common/cuda_types.cuh"
#include "common/point_taps.h"

namespace maskformer_ext::cuda {

template <class T>
__device__ __forceinline__ float sample_map(const T* map, const PointTaps& taps) {
  float value[4];
  for (int tap = 0; tap < 4; ++tap) value[tap] = as_float(map[taps.index[tap]]);
  return blend_taps(taps.weight, value);
}

}  // namespace maskformer_ext::cuda
