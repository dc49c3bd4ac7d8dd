// Masks of an image as the CUDA kernels of inference take them, and the tables of taps they read logits through: what
// launchers and bindings know. Torch-free; the device's side is in tap_table.cuh.
#pragma once

#include <cstdint>

#include "common/mask_resize.h"

struct CUstream_st;  // *cudaStream_t

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

// Taps that serve both axes, so that a kernel needs two instances and not four.
constexpr int taps_of(const PlaneResize& resize) {
  return taps_of(resize.rows) > taps_of(resize.columns) ? taps_of(resize.rows) : taps_of(resize.columns);
}

// Fills the tables of both axes, (rows.out,) and (columns.out,), on the device.
void fill_taps_cuda(const AxisResize& rows, const AxisResize& columns, AxisTaps* row_taps, AxisTaps* column_taps,
                    CUstream_st* stream);

}  // namespace maskformer_ext
