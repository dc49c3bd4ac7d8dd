// What matched_mask_loss adds to the kernels of mask_loss: the range of the ids of segment maps. Torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"

namespace maskformer_ext {

struct SegmentMapRangeParams {
  const void* segment_map;  // (B, H, W) int16 or int32, the last dimension contiguous
  bool is_int16;
  int64_t image_stride, row_stride;  // in elements
  int64_t height, width;             // H, W
  int64_t* lowest;                   // (B,) out
  int64_t* highest;                  // (B,) out
};

// Finds the smallest and the largest id of images [begin, end).
MASKFORMER_EXT_CPU_KERNEL(segment_map_range, const SegmentMapRangeParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
