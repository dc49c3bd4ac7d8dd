// Reads the sample of a map at a point in a CUDA kernel.
#pragma once

#include "common/cuda_types.cuh"
#include "common/point_taps.h"

namespace maskformer_ext::cuda {

template <class T>
__device__ __forceinline__ float sample_map(const T* map, const PointTaps& taps) {
  return blend_taps(taps, as_float(map[taps.index[0]]), as_float(map[taps.index[1]]), as_float(map[taps.index[2]]),
                    as_float(map[taps.index[3]]));
}

}  // namespace maskformer_ext::cuda
