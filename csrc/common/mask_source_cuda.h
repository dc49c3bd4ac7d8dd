// Masks of an image as the CUDA kernels of inference take them: what launchers and bindings know. Torch-free.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/mask_resize.h"

namespace maskformer_ext {

// All pointers are to device memory.
struct CudaMasks {
  const void* logits;  // (Q, height, width), the last dimension contiguous
  DType dtype;
  int64_t query_stride, row_stride;  // in elements; height * row_stride is below 2^31
  int height, width;

  const int32_t* queries;  // (count,) which queries, or null: all Q, in order
  int count;               // how many at most: what memory is made for
  const int32_t* kept;     // () how many there are, where only the device knows, or null: count

  int out_height, out_width;  // of the grid that the tables lead to
  const AxisTaps* rows;       // (out_height,)
  const AxisTaps* columns;    // (out_width,)
  int taps;                   // 2 or 4, of either axis
};

}  // namespace maskformer_ext
