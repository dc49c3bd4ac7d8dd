// Fills the tables of taps that CUDA kernels read logits through. Torch-free; tap_table.cuh is the device's side.
#pragma once

#include "common/mask_resize.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// Fills the tables of both axes, (rows.out,) and (columns.out,), on the device.
void fill_taps_cuda(const AxisResize& rows, const AxisResize& columns, AxisTaps* row_taps, AxisTaps* column_taps,
                    CUstream_st* stream);

}  // namespace maskformer_ext
