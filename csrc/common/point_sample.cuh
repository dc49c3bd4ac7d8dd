// Reads the sample of a map at a point in a CUDA kernel, and the pixels that it is made of.
#pragma once

#include "common/cuda_types.cuh"
#include "common/point_taps.h"

namespace maskformer_ext::cuda {

// The four loads do not wait for each other.
template <class T>
__device__ __forceinline__ void load_taps(const T* map, const PointTaps& taps, float (&value)[4]) {
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) value[tap] = as_float(map[taps.index[tap]]);
}

template <class T>
__device__ __forceinline__ float sample_map(const T* map, const PointTaps& taps) {
  float value[4];
  load_taps(map, taps, value);
  return blend_taps(taps.weight, value);
}

}  // namespace maskformer_ext::cuda
