// CUDA kernels of instance inference: a query's mask as bits, and what its score and box are made of.
#include "common/cuda_block.cuh"
#include "common/math.h"
#include "common/warp_samples.cuh"
#include "instance_inference/instance_inference_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = InstanceCudaParams;
constexpr int kThreads = Params::kThreads;

// Joins the parts of a block's threads. Where a part has no pixels, its box must not be smaller than any other.
template <int kBlockThreads>
__device__ InstancePart join_threads(const InstancePart& part) {
  return {block_reduce<kBlockThreads>(part.probability, Add()), block_reduce<kBlockThreads>(part.pixels, Add()),
          -block_reduce<kBlockThreads>(-part.left, Largest()),  -block_reduce<kBlockThreads>(-part.top, Largest()),
          block_reduce<kBlockThreads>(part.right, Largest()),   block_reduce<kBlockThreads>(part.bottom, Largest())};
}

template <class Logit, int kTaps>
__global__ void __launch_bounds__(kThreads) instance_masks_kernel(Params p) {
  const CudaMasks& masks = p.masks;
  const unsigned strips = p.strips();
  const int query = static_cast<int>(blockIdx.x / strips), strip = static_cast<int>(blockIdx.x % strips);
  const int first_row = strip * Params::kRows;
  const int end_row = min(first_row + Params::kRows, masks.out_height);
  const Logit* plane = mask_plane<Logit>(masks, query);
  uint8_t* bits = p.bits + int64_t{query} * masks.out_height * p.row_bytes;
  const int lane = threadIdx.x % 32;

  InstancePart part = {0.0, 0, masks.out_width, masks.out_height, 0, 0};
  for (int warp_x = threadIdx.x - lane; warp_x < masks.out_width; warp_x += kThreads) {
    const int x = warp_x + lane;
    const bool exists = x < masks.out_width;
    const AxisTaps column = masks.columns[exists ? x : masks.out_width - 1];
    const PixelTaps<kTaps> top(masks.rows[first_row], column, masks.row_stride);
    const PixelTaps<kTaps> bottom(masks.rows[end_row - 1], column, masks.row_stride);
    const WarpSamples samples(top.first_row(), bottom.last_row(), top.first_column(), top.last_column(),
                              masks.row_stride);
    if (!__any_sync(kAllLanes, samples.bound(plane) > p.threshold)) {
      static_assert(Params::kRows == 8);  // four bytes per row, one per lane
      const int y = first_row + lane / 4, byte = warp_x / 8 + lane % 4;
      if (y < end_row && byte < p.row_bytes) bits[int64_t{y} * p.row_bytes + byte] = 0;
      continue;
    }
    float sum = 0.0f;
    int pixels = 0;
    for (int y = first_row; y < end_row; ++y) {
      const float logit = PixelTaps<kTaps>(masks.rows[y], column, masks.row_stride).logit(plane);
      const bool inside = exists && logit > p.threshold;
      const unsigned word = __ballot_sync(kAllLanes, inside);
      const int byte = warp_x / 8 + lane;
      if (lane < 4 && byte < p.row_bytes) {
        bits[int64_t{y} * p.row_bytes + byte] = static_cast<uint8_t>(word >> (8 * lane));
      }
      if (inside) {
        sum += sigmoid(logit);
        ++pixels;
        part.top = y < part.top ? y : part.top;
        part.bottom = y < part.bottom ? part.bottom : y + 1;
      }
    }
    if (pixels > 0) {
      part.probability += sum;
      part.pixels += pixels;
      part.left = x < part.left ? x : part.left;
      part.right = x + 1;
    }
  }
  part = join_threads<kThreads>(part);
  if (threadIdx.x == 0) p.parts[blockIdx.x] = part;
}

// One warp per query joins its strips, in an order that depends on nothing else.
__global__ void __launch_bounds__(32) instance_finish_kernel(Params p) {
  const int query = blockIdx.x, strips = p.strips();
  InstancePart whole = {0.0, 0, p.masks.out_width, p.masks.out_height, 0, 0};
  for (int strip = threadIdx.x; strip < strips; strip += 32) join(whole, p.parts[int64_t{query} * strips + strip]);
  whole = join_threads<32>(whole);
  if (threadIdx.x == 0) write_instance(whole, p.mean + query, p.boxes + 4 * int64_t{query});
}

}  // namespace
}  // namespace cuda

void instance_masks_cuda(const InstanceCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int count = params.masks.count;
  if (count == 0) return;
  const unsigned blocks = static_cast<unsigned>(params.strips()) * count;
  for_cuda_float_type(params.masks.dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    for_taps(params.masks.taps, [&](auto taps) {
      launch(instance_masks_kernel<Logit, decltype(taps)::value>, blocks, Params::kThreads, stream, params);
    });
  });
  launch(instance_finish_kernel, static_cast<unsigned>(count), 32, stream, params);
}

}  // namespace maskformer_ext
