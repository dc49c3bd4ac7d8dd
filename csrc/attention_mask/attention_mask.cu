// CUDA kernels of attention_mask: resized features, and what becomes of empty rows, of which a block takes one at a
// time.
#include "attention_mask/attention_mask.h"
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/resize_taps.h"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 65535;

__global__ void __launch_bounds__(kThreads) fill_empty_rows_kernel(AttentionRows p) {
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    uint8_t* mask = p.mask + row * p.pixels;
    int found = 0;
    for (int64_t i = threadIdx.x; i < p.pixels; i += kThreads) found |= mask[i];
    if (block_reduce<kThreads>(found, Largest()) != 0) continue;  // the same for all threads of the block
    for (int64_t i = threadIdx.x; i < p.pixels; i += kThreads) mask[i] = 1;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) resize_planes_kernel(ResizePlanesParams p) {
  const int64_t total = p.images * p.channels * p.out_height * p.out_width;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total; i += int64_t{gridDim.x} * kThreads) {
    const int64_t x = i % p.out_width, y = i / p.out_width % p.out_height;
    const int64_t plane = i / (p.out_width * p.out_height), image = plane / p.channels, channel = plane % p.channels;
    const ResizeTap row = resize_tap(y, p.in_height, p.out_height), column = resize_tap(x, p.in_width, p.out_width);
    const T* from = static_cast<const T*>(p.planes) + image * p.image_stride + channel * p.channel_stride;
    const T *upper = from + row.lower * p.row_stride, *lower = from + row.upper * p.row_stride;
    const int64_t left = column.lower * p.column_stride, right = column.upper * p.column_stride;
    const float at_left = (1.0f - row.weight) * as_float(upper[left]) + row.weight * as_float(lower[left]);
    const float at_right = (1.0f - row.weight) * as_float(upper[right]) + row.weight * as_float(lower[right]);
    p.out[i] = (1.0f - column.weight) * at_left + column.weight * at_right;
  }
}

}  // namespace
}  // namespace cuda

void resize_planes_cuda(const ResizePlanesParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int64_t total = params.images * params.channels * params.out_height * params.out_width;
  if (total == 0) return;
  const int64_t needed = (total + kThreads - 1) / kThreads;
  const auto blocks = static_cast<unsigned>(needed < kMostBlocks ? needed : kMostBlocks);
  for_cuda_float_type(params.dtype, [&](auto* pointer) {
    launch(resize_planes_kernel<std::remove_pointer_t<decltype(pointer)>>, blocks, kThreads, stream, params);
  });
}

void fill_empty_rows_cuda(const AttentionRows& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows == 0 || params.pixels == 0) return;
  const auto blocks = static_cast<unsigned>(params.rows < kMostBlocks ? params.rows : kMostBlocks);
  launch(fill_empty_rows_kernel, blocks, kThreads, stream, params);
}

}  // namespace maskformer_ext
