// Where queries may attend, on a GPU: what the launchers take. Torch-free. mask_dot's kernel multiplies.
#pragma once

#include <cstdint>

#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct ResizePlanesParams {
  const void* planes;  // (images, channels, in_height, in_width) of dtype, with the strides below, in elements
  DType dtype;
  int64_t image_stride, channel_stride, row_stride, column_stride;
  int64_t images, channels, in_height, in_width, out_height, out_width;
  float* out;  // (images, channels, out_height, out_width)
};

void resize_planes_cuda(const ResizePlanesParams& params, CUstream_st* stream);

struct EmptyRowsParams {
  uint8_t* mask;  // (rows, pixels)
  int64_t rows, pixels;
};

// Fills the rows that are empty: a query that may attend nowhere attends everywhere.
void fill_empty_rows_cuda(const EmptyRowsParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
