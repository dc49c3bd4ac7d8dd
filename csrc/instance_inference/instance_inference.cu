// CUDA kernels of instance inference: a query's mask as bits, and what its score and box are made of.
#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/strip_taps.cuh"
#include "common/warp_samples.cuh"
#include "instance_inference/instance_inference_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = InstanceCudaParams;
constexpr int kThreads = Params::kThreads;
// Blocks per multiprocessor. Three would spill on sm_100.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000 && __CUDA_ARCH__ < 1200
constexpr int kBlocks = 2;
#else
constexpr int kBlocks = 3;
#endif

// Joins the parts of a block's threads. Where a part has no pixels, its box must not be smaller than any other.
template <int kBlockThreads>
__device__ InstancePart join_threads(const InstancePart& part) {
  return {block_reduce<kBlockThreads>(part.probability, Add()), block_reduce<kBlockThreads>(part.pixels, Add()),
          -block_reduce<kBlockThreads>(-part.left, Largest()),  -block_reduce<kBlockThreads>(-part.top, Largest()),
          block_reduce<kBlockThreads>(part.right, Largest()),   block_reduce<kBlockThreads>(part.bottom, Largest())};
}

// The taps of a block's rows, some rows at once. Rows beyond the last count as the last one.
template <int kTaps>
struct Strip {
  static constexpr int kAtOnce = 1;  // more rows of 16 samples would not fit the registers
  const AxisTaps* rows;
  int first, last;
  int64_t row_stride;
  AxisTaps column;

  __device__ Strip(const CudaMasks& masks, int first, int last)
      : rows(masks.rows), first(first), last(last), row_stride(masks.row_stride) {}
  __device__ void set_column(const AxisTaps& taps) { column = taps; }
  // From row first + i on.
  template <class Logit>
  __device__ __forceinline__ void logits(const Logit* plane, int i, float (&logit)[kAtOnce]) const {
    logit[0] = PixelTaps<kTaps>(rows[min(first + i, last)], column, row_stride).logit(plane);
  }
};

template <>
struct Strip<2> {
  static constexpr int kAtOnce = 4;
  StripTaps<kAtOnce> parts[Params::kRows / kAtOnce];

  __device__ Strip(const CudaMasks& masks, int first, int last) {
#pragma unroll
    for (int i = 0; i < Params::kRows / kAtOnce; ++i) {
      parts[i] = StripTaps<kAtOnce>(masks.rows, first + i * kAtOnce, last, masks.row_stride);
    }
  }
  __device__ void set_column(const AxisTaps& taps) {
#pragma unroll
    for (int i = 0; i < Params::kRows / kAtOnce; ++i) parts[i].set_column(taps);
  }
  template <class Logit>
  __device__ __forceinline__ void logits(const Logit* plane, int i, float (&logit)[kAtOnce]) const {
    parts[i / kAtOnce].logits(plane, logit);
  }
};

template <class Logit, int kTaps>
__global__ void __launch_bounds__(kThreads, kBlocks) instance_masks_kernel(Params p) {
  constexpr int kAtOnce = Strip<kTaps>::kAtOnce;
  const CudaMasks& masks = p.masks;
  const unsigned strips = p.strips();
  const int query = static_cast<int>(blockIdx.x / strips), strip = static_cast<int>(blockIdx.x % strips);
  const int first_row = strip * Params::kRows;
  const int end_row = min(first_row + Params::kRows, masks.out_height);
  const Logit* plane = base_of(mask_plane<Logit>(masks, query));
  const int lane = threadIdx.x % 32;
  static_assert(Params::kRows == 8);  // four bytes per row, one per lane
  const int own_row = first_row + lane / 4;
  uint8_t* own_bytes = p.bits + (int64_t{query} * masks.out_height + own_row) * p.row_bytes;

  const int first_sample_row = PixelTaps<kTaps>(masks.rows[first_row], {}, masks.row_stride).first_row();
  const int sample_rows = WarpSamples::rows_between(
      first_sample_row, PixelTaps<kTaps>(masks.rows[end_row - 1], {}, masks.row_stride).last_row(), masks.row_stride);
  Strip<kTaps> strip_taps(masks, first_row, end_row - 1);
  double probability = 0.0;
  int pixels = 0, left = masks.out_width, top = masks.out_height, right = 0, bottom = 0;
  for (int warp_x = threadIdx.x - lane; warp_x < masks.out_width; warp_x += kThreads) {
    const int x = warp_x + lane, own_byte = warp_x / 8 + lane % 4;
    const bool exists = x < masks.out_width, stores = own_row < end_row && own_byte < p.row_bytes;
    const AxisTaps column = masks.columns[exists ? x : masks.out_width - 1];
    const PixelTaps<kTaps> own(masks.rows[first_row], column, masks.row_stride);
    const auto samples =
        WarpSamples::of_rows(first_sample_row, sample_rows, own.first_column(), own.last_column(), masks.row_stride);
    if (!__any_sync(kAllLanes, samples.bound(plane) > p.threshold)) {
      if (stores) own_bytes[own_byte] = 0;
      continue;
    }
    float sum = 0.0f;
    unsigned own_word = 0, columns = 0;
    strip_taps.set_column(column);
#pragma unroll(kTaps == 2 ? Params::kRows / kAtOnce : 1)
    for (int i = 0; i < Params::kRows; i += kAtOnce) {
      float logit[kAtOnce];
      strip_taps.logits(plane, i, logit);
      bool inside[kAtOnce];
      unsigned any = 0;
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r) {
        inside[r] = exists && first_row + i + r < end_row && logit[r] > p.threshold;
        const unsigned word = __ballot_sync(kAllLanes, inside[r]);
        own_word = own_row == first_row + i + r ? word : own_word;
        any |= word;
      }
      columns |= any;
      if (any != 0) {
#pragma unroll
        for (int r = 0; r < kAtOnce; ++r) sum += inside[r] ? fast_sigmoid_of_any(logit[r]) : 0.0f;
      }
    }
    probability += sum;
    const unsigned bits = own_word >> (8 * (lane % 4)) & 0xffu;
    if (stores) own_bytes[own_byte] = static_cast<uint8_t>(bits);
    pixels += __popc(bits);  // each lane knows one row's
    if (bits != 0) {
      top = min(top, own_row);
      bottom = own_row + 1;
    }
    if (columns >> lane & 1u) {
      left = min(left, x);
      right = x + 1;
    }
  }
  const InstancePart part = join_threads<kThreads>(InstancePart{probability, pixels, left, top, right, bottom});
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
