// CUDA kernels of attention_mask: resized features, and what becomes of empty rows, of which a block takes one at a
// time.
#include "attention_mask/attention_mask_cuda.h"
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/resize_taps.h"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 65535;
constexpr int kPlanes = 4;

__global__ void __launch_bounds__(kThreads) fill_empty_rows_kernel(EmptyRowsParams p) {
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    uint8_t* mask = p.mask + row * p.pixels;
    int found = 0;
    for (int64_t i = threadIdx.x; i < p.pixels; i += kThreads) found |= mask[i];
    if (block_reduce<kThreads>(found, Largest()) != 0) continue;  // the same for all threads of the block
    for (int64_t i = threadIdx.x; i < p.pixels; i += kThreads) mask[i] = 1;
  }
}

// A thread finds the taps of an output pixel once for kPlanes planes.
template <class T>
__global__ void __launch_bounds__(kThreads, 3) resize_planes_kernel(ResizePlanesParams p) {
  const int64_t pixels = p.out_height * p.out_width, planes = p.images * p.channels;
  const int64_t to_next_image = p.image_stride - (p.channels - 1) * p.channel_stride;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < pixels; i += int64_t{gridDim.x} * kThreads) {
    const int64_t y = i / p.out_width, x = i - y * p.out_width;
    const ResizeTap row = resize_tap(y, p.in_height, p.out_height), column = resize_tap(x, p.in_width, p.out_width);
    const int64_t upper = row.lower * p.row_stride, lower = row.upper * p.row_stride;
    const int64_t left = column.lower * p.column_stride, right = column.upper * p.column_stride;
    const int64_t offset[4] = {upper + left, lower + left, upper + right, lower + right};
    for (int64_t first = blockIdx.y * int64_t{kPlanes}; first < planes; first += gridDim.y * int64_t{kPlanes}) {
      const int64_t image = first / p.channels;
      int64_t channel = first - image * p.channels;
      const T* from = static_cast<const T*>(p.planes) + image * p.image_stride + channel * p.channel_stride;
      float value[kPlanes][4];
#pragma unroll
      for (int k = 0; k < kPlanes; ++k) {
#pragma unroll
        for (int tap = 0; tap < 4; ++tap) value[k][tap] = as_float(from[offset[tap]]);
        if (first + k + 1 >= planes) continue;  // the last plane once more
        const bool next_image = ++channel == p.channels;
        from += next_image ? to_next_image : p.channel_stride;
        channel = next_image ? 0 : channel;
      }
#pragma unroll
      for (int k = 0; k < kPlanes; ++k) {
        if (first + k >= planes) break;
        const float at_left = (1.0f - row.weight) * value[k][0] + row.weight * value[k][1];
        const float at_right = (1.0f - row.weight) * value[k][2] + row.weight * value[k][3];
        p.out[(first + k) * pixels + i] = (1.0f - column.weight) * at_left + column.weight * at_right;
      }
    }
  }
}

}  // namespace
}  // namespace cuda

void resize_planes_cuda(const ResizePlanesParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int64_t pixels = params.out_height * params.out_width, planes = params.images * params.channels;
  if (pixels == 0 || planes == 0) return;
  const int64_t across = (pixels + kThreads - 1) / kThreads, groups = (planes + kPlanes - 1) / kPlanes;
  const dim3 blocks(static_cast<unsigned>(across < kMostBlocks ? across : kMostBlocks),
                    static_cast<unsigned>(groups < kMostBlocks ? groups : kMostBlocks));
  for_cuda_float_type(params.dtype, [&](auto* pointer) {
    launch(resize_planes_kernel<std::remove_pointer_t<decltype(pointer)>>, blocks, kThreads, stream, params);
  });
}

void fill_empty_rows_cuda(const EmptyRowsParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows == 0 || params.pixels == 0) return;
  const auto blocks = static_cast<unsigned>(params.rows < kMostBlocks ? params.rows : kMostBlocks);
  launch(fill_empty_rows_kernel, blocks, kThreads, stream, params);
}

}  // namespace maskformer_ext
