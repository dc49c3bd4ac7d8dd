// Mask probabilities of some queries at a block's pixels, in float16, as labels need them. Queries that are small at
// all of these pixels are left out. What they could have added to a score is counted.
#pragma once

#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/cuda_mma.cuh"
#include "common/strip_taps.cuh"
#include "common/tap_table.cuh"
#include "common/warp_samples.cuh"
#include "semantic_inference/semantic_inference_cuda.h"

namespace maskformer_ext::cuda {

__device__ __forceinline__ uint32_t half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }

// Wrong by less than 2^-18 where float16 can tell the result from 0 and 1.
__device__ __forceinline__ float fast_sigmoid(float x) {
  return reciprocal_approximate(1.0f + exp2_approximate(-1.44269504f * x));
}

// The taps of a thread of a block, whose pixels are kRows rows of 32. One struct per number of taps, with the number of
// rows per thread. A thread loads the samples of all its rows at once.
template <int kTaps, int kBlockRows, int kAtOnce>
struct ChunkTaps {
  static constexpr int kRows = 1;  // more rows of 16 samples would not fit the registers
  PixelTaps<kTaps> taps;

  __device__ ChunkTaps(const CudaMasks& masks, int row, int column)
      : taps(masks.rows[min(row + static_cast<int>(threadIdx.x) / 32 % kBlockRows, masks.out_height - 1)],
             masks.columns[min(column + static_cast<int>(threadIdx.x) % 32, masks.out_width - 1)], masks.row_stride) {}
  template <class Logit>
  __device__ __forceinline__ void logits(const Logit* plane, float (&logit)[kRows]) const {
    logit[0] = taps.logit(plane);
  }
};

template <int kBlockRows, int kAtOnce>
struct ChunkTaps<2, kBlockRows, kAtOnce> {
  static constexpr int kRows = kAtOnce;
  StripTaps<kRows> taps;

  __device__ ChunkTaps(const CudaMasks& masks, int row, int column)
      : taps(masks.rows, row + static_cast<int>(threadIdx.x) / 32 * kRows % kBlockRows, masks.out_height - 1,
             masks.columns[min(column + static_cast<int>(threadIdx.x) % 32, masks.out_width - 1)], masks.row_stride) {}
  template <class Logit>
  __device__ __forceinline__ void logits(const Logit* plane, float (&logit)[kRows]) const {
    taps.logits(plane, logit);
  }
};

template <class Logit, int kTaps, int kAtOnce>
class MaskChunk {
 public:
  static constexpr int kThreads = 256, kWarps = kThreads / 32;
  static constexpr int kColumns = 32, kRows = 4, kPixels = kColumns * kRows;
  static constexpr int kQueries = 64, kStep = SemanticCudaParams::kStep, kSteps = kQueries / kStep;
  static constexpr int kPitch = kPixels + 8;
  static constexpr int kBoundsAtOnce = sizeof(Logit) == 4 ? kAtOnce : (kAtOnce + 1) / 2;  // what registers hold
  static constexpr float kNegligible = 2e-4f;  // the most that a query which is left out adds to a score

  // All threads of the block make one, for the pixels from (row, column) on. Pixels outside the image count as the last
  // ones inside. Taps are read again for every chunk, since no registers are left for them beside a product's sums.
  __device__ MaskChunk(const SemanticCudaParams& p, int row, int column)
      : samples_(samples(p, row, Taps(p.masks, row, column))) {}

  // Writes probabilities of queries [first, first + kQueries) that count, query q's from to[q * kPitch] on. Returns
  // which steps of kStep queries have any: a bit for each. The others are not written. `left_out` grows by what is left
  // out.
  template <class Shared, class SharedFloats>
  __device__ __forceinline__ unsigned fill(const SemanticCudaParams& p, int first, int kept, Shared& to,
                                           SharedFloats& left_out) const {
    MASKFORMER_EXT_SHARED(float, most, kQueries);           // that a query adds to a score
    MASKFORMER_EXT_SHARED(int, places, kQueries);           // where rows of probabilities begin, then those of zeros
    MASKFORMER_EXT_SHARED(const Logit*, planes, kQueries);  // the logits of the former
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = min(kQueries, kept - first);
    bound_queries(p, first, count, most);
    __syncthreads();  // also: the chunk before is not read any more
    const bool exists[2] = {lane < count, 32 + lane < count};
    bool matters[2];
    unsigned active[2];
    float missing = 0.0f;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float own = exists[i] ? most[32 * i + lane] : 0.0f;
      matters[i] = !(own <= kNegligible);
      missing += matters[i] ? 0.0f : own;
      active[i] = __ballot_sync(kAllLanes, matters[i]);
    }
    if (warp == 0) left_out[lane] = left_out[lane] + missing;
    unsigned steps = 0, zeros[2];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) steps |= (active[s / 2] >> (s % 2 * 16) & 0xffffu) != 0 ? 1u << s : 0u;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      zeros[i] = ((steps >> (2 * i) & 1u ? 0xffffu : 0u) | (steps >> (2 * i + 1) & 1u ? 0xffff0000u : 0u)) & ~active[i];
    }
    const int probabilities = __popc(active[0]) + __popc(active[1]);
    const int rows = probabilities + __popc(zeros[0]) + __popc(zeros[1]);
    if (warp < 2) {
      const unsigned below = (1u << lane) - 1u, own = warp == 0 ? active[0] : active[1];
      const unsigned own_zeros = warp == 0 ? zeros[0] : zeros[1];
      const int query = 32 * warp + lane;
      if (own >> lane & 1u) {
        const int place = __popc(own & below) + (warp == 0 ? 0 : __popc(active[0]));
        places[place] = query * kPitch;
        planes[place] = mask_plane<Logit>(p.masks, first + query);
      } else if (own_zeros >> lane & 1u) {
        places[probabilities + __popc(own_zeros & below) + (warp == 0 ? 0 : __popc(zeros[0]))] = query * kPitch;
      }
    }
    __syncthreads();
    // Each stream of threads takes queries of its own.
    constexpr int kOwnRows = Taps::kRows, kStreams = kThreads / kPixels * kOwnRows;
    const int own_row = warp * kOwnRows % kRows, stream = warp / (kRows / kOwnRows);
    // The block's place is found again: the registers that would keep it are the sums'.
    const Taps taps(p.masks, static_cast<int>(blockIdx.x) / tiles(p) * kRows,
                    static_cast<int>(blockIdx.x) % tiles(p) * kColumns);
#pragma unroll 1
    for (int n = stream; n < probabilities; n += kStreams) {
      float logit[kOwnRows];
      const Logit* plane = planes[n];
      taps.logits(base_of(plane), logit);
      const int place = places[n] + own_row * kColumns + lane;
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r) {
        to[place + r * kColumns] = static_cast<uint16_t>(half_bits(fast_sigmoid(logit[r])));
      }
    }
#pragma unroll 1
    for (int n = probabilities + threadIdx.x / kPixels; n < rows; n += kThreads / kPixels) {
      const int place = places[n];
      to[place + pixel()] = uint16_t{0};
    }
    __syncthreads();
    return steps;
  }

 private:
  using Taps = ChunkTaps<kTaps, kRows, kAtOnce>;
  WarpSamples samples_;  // under all of the block's pixels

  static __device__ __forceinline__ int pixel() { return static_cast<int>(threadIdx.x) % kPixels; }
  static __device__ int tiles(const SemanticCudaParams& p) { return (p.masks.out_width + kColumns - 1) / kColumns; }
  static __device__ WarpSamples samples(const SemanticCudaParams& p, int row, const Taps& own) {
    const auto row_samples = [&](int y) { return PixelTaps<kTaps>(p.masks.rows[y], {}, p.masks.row_stride); };
    return WarpSamples(row_samples(row).first_row(), row_samples(min(row + kRows, p.masks.out_height) - 1).last_row(),
                       own.taps.first_column(), own.taps.last_column(), p.masks.row_stride);
  }

  // Bounds what each query adds to a score at the block's pixels. A warp takes a query.
  template <class Shared>
  __device__ __forceinline__ void bound_queries(const SemanticCudaParams& p, int first, int count, Shared& most) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll kBoundsAtOnce
    for (int i = 0; i < kQueries / kWarps; ++i) {
      const int q = warp + i * kWarps, query = p.query[first + min(q, count - 1)];
      const float bound = samples_.bound(static_cast<const Logit*>(p.masks.logits) + query * p.masks.query_stride);
      const float own = 1.0001f * fast_sigmoid(bound) * p.most[query];
      // Bits of numbers that are not negative are in order.
      const unsigned bits = __reduce_max_sync(kAllLanes, __float_as_uint(own));
      if (lane == 0 && q < count) most[q] = __uint_as_float(bits);
    }
  }
};

}  // namespace maskformer_ext::cuda
