// CUDA kernel that fills the tables of taps of a resize, once per call. No other kernel then divides 64-bit integers.
#include "common/cuda_launch.cuh"
#include "common/tap_table_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    fill_taps_kernel(AxisResize rows, AxisResize columns, AxisTaps* row_taps, AxisTaps* column_taps) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < rows.out) row_taps[i] = axis_taps(rows, i);
  if (i < columns.out) column_taps[i] = axis_taps(columns, i);
}

}  // namespace
}  // namespace cuda

void fill_taps_cuda(const AxisResize& rows, const AxisResize& columns, AxisTaps* row_taps, AxisTaps* column_taps,
                    CUstream_st* stream) {
  const int64_t most = rows.out > columns.out ? rows.out : columns.out;
  if (most == 0) return;
  const auto blocks = static_cast<unsigned>((most + cuda::kThreads - 1) / cuda::kThreads);
  cuda::launch(cuda::fill_taps_kernel, blocks, cuda::kThreads, stream, rows, columns, row_taps, column_taps);
}

}  // namespace maskformer_ext
