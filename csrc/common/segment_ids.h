// The range of the ids in segment maps: every op that takes one checks its ids by it. Torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"

namespace maskformer_ext {

struct SegmentIdRangeParams {
  const void* segment_map;           // (B, H, W) int16 or int32, the last dimension contiguous
  bool wide;                         // int32
  int64_t image_stride, row_stride;  // in elements
  int64_t height, width;             // H, W
  int64_t* lowest;                   // (B,) out, at most 0
  int64_t* highest;                  // (B,) out, at least -1
};

// Finds the smallest and the largest id of images [begin, end).
MASKFORMER_EXT_CPU_KERNEL(segment_id_range, const SegmentIdRangeParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
