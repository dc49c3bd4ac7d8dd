// Mask probabilities of some queries at a block's pixels, in float16, as labels need them. Queries that are small at
// all of these pixels are left out. What they could have added to a score is counted.
#pragma once

#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/cuda_mma.cuh"
#include "common/tap_table.cuh"
#include "common/warp_samples.cuh"
#include "semantic_inference/semantic_inference_cuda.h"

namespace maskformer_ext::cuda {

__device__ __forceinline__ uint32_t half_bits(float x) { return __half_as_ushort(__float2half_rn(x)); }

// Wrong by less than 2^-18 where float16 can tell the result from 0 and 1.
__device__ __forceinline__ float fast_sigmoid(float x) {
  return reciprocal_approximate(1.0f + exp2_approximate(-1.44269504f * x));
}

// A block's pixels are kRows rows of 32, and each is filled by two threads. A thread loads the samples of kAtOnce
// queries at once, as many as its registers hold.
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
  // ones inside.
  __device__ MaskChunk(const SemanticCudaParams& p, int row, int column)
      : taps_(p.masks.rows[min(row + pixel() / kColumns, p.masks.out_height - 1)],
              p.masks.columns[min(column + pixel() % kColumns, p.masks.out_width - 1)], p.masks.row_stride),
        samples_(row_samples(p, row).first_row(), row_samples(p, min(row + kRows, p.masks.out_height) - 1).last_row(),
                 taps_.first_column(), taps_.last_column(), p.masks.row_stride) {}

  // Writes probabilities of queries [first, first + kQueries) that count, query q's from to[q * kPitch] on. Returns
  // which steps of kStep queries have any: a bit for each. The others are not written. `missing` grows by what is left
  // out.
  template <class Shared>
  __device__ __forceinline__ unsigned fill(const SemanticCudaParams& p, int first, int kept, Shared& to,
                                           float& missing) const {
    MASKFORMER_EXT_SHARED(float, most, kQueries);           // that a query adds to a score
    MASKFORMER_EXT_SHARED(int, places, kQueries);           // where rows of probabilities begin, then those of zeros
    MASKFORMER_EXT_SHARED(const Logit*, planes, kQueries);  // the logits of the former
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = min(kQueries, kept - first);
    bound_queries(p, first, count, most);
    __syncthreads();  // also: the chunk before is not read any more
    const bool exists[2] = {lane < count, 32 + lane < count};
    bool matters[2];
    unsigned active[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float own = exists[i] ? most[32 * i + lane] : 0.0f;
      matters[i] = !(own <= kNegligible);
      missing += matters[i] ? 0.0f : own;
      active[i] = __ballot_sync(kAllLanes, matters[i]);
    }
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
    constexpr int kStreams = kThreads / kPixels;
#pragma unroll 1
    for (int n = threadIdx.x / kPixels; n < probabilities; n += kAtOnce * kStreams) {
      float logit[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {  // no branch, so that all loads are under way at once
        const Logit* plane = planes[min(n + i * kStreams, probabilities - 1)];
        // Offsets without a sign take one instruction.
        logit[i] = taps_.value(
            [&](int r, int c) { return as_float(plane[static_cast<unsigned>(taps_.row[r] + taps_.column[c])]); });
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (n + i * kStreams >= probabilities) break;
        const int place = places[n + i * kStreams];
        to[place + pixel()] = static_cast<uint16_t>(half_bits(fast_sigmoid(logit[i])));
      }
    }
#pragma unroll 1
    for (int n = probabilities + threadIdx.x / kPixels; n < rows; n += kStreams) {
      const int place = places[n];
      to[place + pixel()] = uint16_t{0};
    }
    __syncthreads();
    return steps;
  }

 private:
  PixelTaps<kTaps> taps_;  // of this thread's pixel
  WarpSamples samples_;    // under all of the block's pixels

  static __device__ __forceinline__ int pixel() { return static_cast<int>(threadIdx.x) % kPixels; }
  // The samples of a row of pixels; columns do not matter.
  static __device__ PixelTaps<kTaps> row_samples(const SemanticCudaParams& p, int row) {
    return PixelTaps<kTaps>(p.masks.rows[row], p.masks.columns[0], p.masks.row_stride);
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
