// CUDA kernel of matching_cost with a segment map, on targets that matching_cost_targets.cu prepared. A block takes two
// queries at a time, which share the reads of the list of pixels. Where there are few queries it takes one.
#include "common/cuda_base.cuh"
#include "common/cuda_block.cuh"
#include "common/cuda_cache.h"
#include "common/warp_sums.cuh"
#include "matching_cost/class_sums.cuh"
#include "matching_cost/pixel_terms.cuh"
#include "matching_cost/query_costs.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kSums = Params::kSums;
constexpr int kAhead = 2;         // pixels of a thread whose loads do not wait for each other
constexpr int kFloatPixels = 32;  // pixels of a thread that are added in float
// From how many pairs of queries on a block takes two: enough to fill a GPU several times. The stand-in tests both.
constexpr int64_t kManyPairs = kCachedFloats > 1024 ? 2048 : 4;

// Sums every item of the queries. Returns a bit for each query of which this thread has a logit that is not finite.
template <bool kSquare, int kQueries, class At>
__device__ int sum_items(const Params& p, const At& at, int num_items, double* sums) {
  constexpr int kValues = kQueries * kSums;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int* order = base_of(p.order + at.image * p.pixels());
  decltype(at.logits) logits[kQueries];
  float check[kQueries];  // NaN once a logit is not finite
#pragma unroll
  for (int k = 0; k < kQueries; ++k) {
    logits[k] = base_of(at.logits + min(k, at.count - 1) * p.pixels());  // where there is no second, the first again
    check[k] = 0.0f;
  }
  for (int i = warp; i < num_items; i += kWarps) {
    const int* item = p.item + (at.image * p.max_items + i) * 2;
    const int begin = item[0], end = item[1];
    float sum[kValues] = {};
    for (int place = begin + lane; place - lane < end; place += 32 * kAhead) {  // at most kFloatPixels of a lane
      unsigned pixel[kAhead];
      float x[kAhead][kQueries];
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) pixel[ahead] = order[min(place + 32 * ahead, end - 1)];
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) {
#pragma unroll
        for (int k = 0; k < kQueries; ++k) x[ahead][k] = as_float(logits[k][pixel[ahead]]);
      }
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) {
        const bool there = place + 32 * ahead < end;
#pragma unroll
        for (int k = 0; k < kQueries; ++k) {
          check[k] = fmaf(x[ahead][k], 0.0f, check[k]);
          const PixelTerms terms = pixel_terms<kSquare>(x[ahead][k], p.gamma);
          if (there) {
            sum[k * kSums] += terms.positive;
            sum[k * kSums + 1] += terms.negative;
            sum[k * kSums + 2] += terms.foreground;
            sum[k * kSums + 3] += terms.background;
          }
        }
      }
    }
    double exact[kValues];
#pragma unroll
    for (int k = 0; k < kValues; ++k) exact[k] = sum[k];
    const double total = warp_sums(exact);
    constexpr int lanes = 32 / kValues;
    if (lane % lanes == 0) sums[kValues * i + lane / lanes] = total;
  }
  int wrong = 0;
#pragma unroll
  for (int k = 0; k < kQueries; ++k) {
    if (p.ignore_void) {  // a void pixel is in no item, but its logit must be finite all the same
      for (int64_t i = threadIdx.x; i < p.pixels(); i += kThreads)
        check[k] = fmaf(as_float(logits[k][i]), 0.0f, check[k]);
    }
    wrong |= check[k] == 0.0f ? 0 : 1 << k;
  }
  return wrong;
}

template <bool kSquare, int kQueries, class Class, class Mask>
__global__ void __launch_bounds__(kThreads, kSquare ? 5 : 4) map_cost_kernel(Params p, int64_t work) {
  static_assert(Params::kItemPixels == 32 * kFloatPixels);
  constexpr int kValues = kQueries * kSums;
  const double positive_factor = p.alpha < 0.0f ? 1.0 : static_cast<double>(p.alpha);
  const double negative_factor = p.alpha < 0.0f ? 1.0 : 1.0 - static_cast<double>(p.alpha);
  const int segments = static_cast<int>(p.segments), groups = segments + 1;
  double* items = p.sums + blockIdx.x * p.sums_stride;
  double* of_group = items + kValues * p.max_items;
  for (int64_t index = blockIdx.x; index < work; index += gridDim.x) {
    const Rows<kQueries, Class, Mask> at(p, index);
    const int* first_item = p.first_item + at.image * (groups + 1);
    Query query[kQueries];
#pragma unroll
    for (int k = 0; k < kQueries; ++k) {
      query[k].finite = class_sums<kThreads>(at.classes + min(k, at.count - 1) * (p.classes + 1), p.classes + 1,
                                             &query[k].largest, &query[k].exponentials);
    }
    int wrong = sum_items<kSquare, kQueries>(p, at, first_item[groups], items);
    wrong = block_reduce<kThreads>(wrong, AnyBit());  // after it, sums are complete
    for (int i = threadIdx.x; i < kValues * groups; i += kThreads) {
      double sum = 0.0;
      for (int item = first_item[i / kValues]; item < first_item[i / kValues + 1]; ++item) {
        sum += items[kValues * item + i % kValues];
      }
      of_group[i] = sum;
    }
    __syncthreads();
    const float counted = 1.0f * max(p.counted[at.image], 1);
    for (int i = threadIdx.x; i < segments * at.count; i += kThreads) {
      const int k = i / segments, t = i - k * segments;
      float* cost = at.cost + i;
      if (t >= at.num_segments) {
        *cost = 0.0f;
        continue;
      }
      const double* of_query = of_group + k * kSums;
      double negative = 0.0, missed = 0.0;
      for (int g = 0; g < groups; ++g) {  // the outside has its own sum: a total minus the inside would cancel
        negative += g == t ? 0.0 : of_query[kValues * g + 1];
        missed += g == t ? 0.0 : of_query[kValues * g + 2];
      }
      const double* own = of_query + kValues * t;
      const double focal = positive_factor * own[0] + negative_factor * negative;
      Query of_cost = k == 0 ? query[0] : query[kQueries - 1];
      of_cost.finite = of_cost.finite && (wrong >> k & 1) == 0;
      write_cost(p, at.classes + k * (p.classes + 1), of_cost, at.image, t, counted,
                 {focal, missed + own[2], missed + own[3]}, cost);
    }
    __syncthreads();  // sums are free for the next queries
  }
}

}  // namespace
}  // namespace cuda

void matching_cost_rows_cuda(const MatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows == 0 || params.segments == 0) return;
  if (params.masks != nullptr) return matching_cost_masks_cuda(params, stream);
  const int64_t rows = params.rows, pairs = rows / params.queries * ((params.queries + 1) / 2);
  for_types_of(params, [&](auto square, auto* class_pointer, auto* mask_pointer) {
    using Class = std::remove_pointer_t<decltype(class_pointer)>;
    using Mask = std::remove_pointer_t<decltype(mask_pointer)>;
    if (pairs < kManyPairs) {
      launch(map_cost_kernel<square.value, 1, Class, Mask>, blocks_for(params, rows), kThreads, stream, params, rows);
    } else {
      launch(map_cost_kernel<square.value, 2, Class, Mask>, blocks_for(params, pairs), kThreads, stream, params, pairs);
    }
  });
}

}  // namespace maskformer_ext
