// CUDA kernels of point_matching_cost: shares of points, then sums of queries. A block takes two queries at a time,
// which share taps and the reads of shares. Where there are few queries it takes one.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "common/cuda_base.cuh"
#include "common/cuda_block.cuh"
#include "common/cuda_cache.h"
#include "common/cuda_types.cuh"
#include "common/finite_logistic.cuh"
#include "common/point_sample.cuh"
#include "common/warp_sums.cuh"
#include "matching_cost/class_sums.cuh"
#include "point_matching_cost/point_matching_cost_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PointMatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kFloatPoints = 32;  // points of a thread that are added in float
constexpr int kSegments = 24;     // whose sums a thread keeps in registers
constexpr int kSegmentGroup = 4;  // segments that are left out together where there are fewer
// From how many pairs of queries on a block takes two: enough to fill a GPU several times. The stand-in tests both.
constexpr int64_t kManyPairs = kCachedFloats > 1024 ? 512 : 4;

// Counts outside [0, segments] are clamped.
__device__ __forceinline__ int segments_of(const Params& p, int64_t image) {
  const int64_t n = p.num_segments[image];
  return static_cast<int>(n < 0 ? 0 : (n > p.segments ? p.segments : n));
}

__device__ __forceinline__ PointTaps target_taps(const Params& p, float x, float y) {
  if (!p.nearest) return point_taps(x, y, p.target_height, p.target_width, p.target_width);
  const int64_t pixel = nearest_pixel(x, y, p.target_height, p.target_width, p.target_width);
  PointTaps taps = {};
  taps.index[0] = pixel < 0 ? 0 : pixel;
  taps.weight[0] = pixel < 0 ? 0.0f : 1.0f;
  return taps;
}

// A thread divides a point among the segments of its image.
__global__ void __launch_bounds__(kThreads) find_shares_kernel(Params p) {
  const int64_t total = p.problems * p.count, plane = p.target_height * p.target_width;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total; i += int64_t{gridDim.x} * kThreads) {
    const int64_t problem = i / p.count, point = i % p.count;
    const int64_t image = (p.first_problem + problem) % p.images;
    const float* at = p.points + ((p.first_problem + problem) * p.count + point) * 2;
    const PointTaps taps = target_taps(p, at[0], at[1]);
    float* inside = p.inside + problem * p.segments * p.count + point;
    const int num_segments = segments_of(p, image);
    if (p.from_masks) {
      const uint8_t* masks = static_cast<const uint8_t*>(p.pixels) + image * p.segments * plane;
      for (int t = 0; t < num_segments; ++t) {
        float share = 0.0f;
        for (int tap = 0; tap < 4; ++tap) share += masks[t * plane + taps.index[tap]] != 0 ? taps.weight[tap] : 0.0f;
        inside[static_cast<int64_t>(t) * p.count] = share < 1.0f ? share : 1.0f;
      }
      continue;
    }
    for (int t = 0; t < num_segments; ++t) inside[static_cast<int64_t>(t) * p.count] = 0.0f;
    for (int tap = 0; tap < 4; ++tap) {
      if (taps.weight[tap] == 0.0f) continue;
      const int64_t place = image * plane + taps.index[tap];
      const int id =
          p.wide ? static_cast<const int32_t*>(p.pixels)[place] : static_cast<const int16_t*>(p.pixels)[place];
      if (id < 0 || id >= num_segments) continue;  // an id out of range is void
      float& share = inside[static_cast<int64_t>(id) * p.count];
      const float more = share + taps.weight[tap];
      share = more < 1.0f ? more : 1.0f;
    }
  }
}

// The logits of neighbouring queries at a point, which share its taps.
template <int kQueries, bool kSampled, class Mask>
__device__ __forceinline__ void logits_at(const Params& p, const Mask* const (&logits)[kQueries], const float* points,
                                          unsigned point, float (&x)[kQueries]) {
  if constexpr (kSampled) {
#pragma unroll
    for (int k = 0; k < kQueries; ++k) x[k] = as_float(logits[k][point]);
  } else {
    const PointTaps taps = point_taps(points[2 * point], points[2 * point + 1], p.height, p.width, p.width);
    float value[kQueries][4];
#pragma unroll
    for (int tap = 0; tap < 4; ++tap) {
      const auto index = static_cast<unsigned>(taps.index[tap]);
#pragma unroll
      for (int k = 0; k < kQueries; ++k) value[k][tap] = as_float(logits[k][index]);
    }
#pragma unroll
    for (int k = 0; k < kQueries; ++k) x[k] = blend_taps(taps.weight, value[k]);
  }
}

// Combines flags of threads.
struct AnyBit {
  __device__ __forceinline__ int operator()(int a, int b) const { return a | b; }
};

// `missed` has the probability of what is outside and one minus that of what is inside.
struct SegmentSums {
  double entropy, missed;
};

// A thread evaluates its points for kQueries queries and keeps the sums of kSegments segments in registers. Queries
// share the reads of shares. Lane l of a warp has the sums of segment l, and lane kSegments the foreground.
template <int kQueries, bool kSampled, class Mask>
__device__ __forceinline__ void sum_points(const Params& p, const Mask* const (&logits)[kQueries], const float* points,
                                           const float* inside, int segments, float (&check)[kQueries],
                                           SegmentSums (&total)[kQueries]) {
  const auto count = static_cast<unsigned>(p.count);
  for (unsigned first = 0; first < count; first += kThreads * kFloatPoints) {
    const unsigned end = min(count, first + kThreads * kFloatPoints);
    float entropy[kQueries][kSegments] = {}, missed[kQueries][kSegments] = {}, foreground[kQueries] = {};
    for (unsigned point = first + threadIdx.x; point < end; point += kThreads) {
      float x[kQueries], positive[kQueries], negative[kQueries], sigmoid[kQueries], opposite[kQueries];
      logits_at<kQueries, kSampled>(p, logits, points, point, x);
#pragma unroll
      for (int k = 0; k < kQueries; ++k) {
        check[k] = fmaf(x[k], 0.0f, check[k]);
        const LogisticOfMagnitude l = logistic_of_magnitude(x[k]);
        const float large = l.softplus_negative + fabsf(x[k]);
        const bool above = x[k] > 0.0f;
        positive[k] = above ? l.softplus_negative : large;
        negative[k] = above ? large : l.softplus_negative;
        sigmoid[k] = above ? l.larger : l.smaller;
        opposite[k] = above ? l.smaller : l.larger;  // 1 - sigmoid, without cancellation
        foreground[k] += sigmoid[k];
      }
#pragma unroll
      for (int group = 0; group < kSegments; group += kSegmentGroup) {
        if (group >= segments) break;
        float share[kSegmentGroup];
#pragma unroll
        for (int i = 0; i < kSegmentGroup; ++i) {  // the last segment again, where there are fewer
          share[i] = inside[static_cast<unsigned>(min(group + i, segments - 1)) * count + point];
        }
#pragma unroll
        for (int i = 0; i < kSegmentGroup; ++i) {
          const float rest = 1.0f - share[i];  // the outside is summed, not subtracted
#pragma unroll
          for (int k = 0; k < kQueries; ++k) {
            entropy[k][group + i] += share[i] * positive[k] + rest * negative[k];
            missed[k][group + i] += share[i] * opposite[k] + rest * sigmoid[k];
          }
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kQueries; ++k) {
      double exact[32];
#pragma unroll
      for (int t = 0; t < 32; ++t) exact[t] = t < kSegments ? entropy[k][t % kSegments] : 0.0f;
      exact[kSegments] = foreground[k];
      total[k].entropy += warp_sums(exact);
#pragma unroll
      for (int t = 0; t < 32; ++t) exact[t] = t < kSegments ? missed[k][t % kSegments] : 0.0f;
      total[k].missed += warp_sums(exact);
    }
  }
}

// Sums the shares of each segment, for all queries.
__global__ void __launch_bounds__(kThreads) add_shares_kernel(Params p) {
  const int64_t problem = blockIdx.x / p.segments, segment = blockIdx.x - problem * p.segments;
  if (segment >= segments_of(p, (p.first_problem + problem) % p.images)) return;
  const float* inside = p.inside + (problem * p.segments + segment) * p.count;
  double sum = 0.0;
  for (int i = threadIdx.x; i < p.count; i += kThreads) sum += static_cast<double>(inside[i]);
  sum = block_reduce<kThreads>(sum, Add());
  if (threadIdx.x == 0) p.area[problem * p.segments + segment] = sum;
}

template <int kQueries, bool kSampled, class Class, class Mask>
__global__ void __launch_bounds__(kThreads) point_cost_kernel(Params p, int64_t work) {
  MASKFORMER_EXT_SHARED(double, entropy, kQueries* kThreads);
  MASKFORMER_EXT_SHARED(double, missed, kQueries* kThreads);
  const int thread = static_cast<int>(threadIdx.x), segments = static_cast<int>(p.segments);
  const int64_t of_problem = (p.queries + kQueries - 1) / kQueries;
  for (int64_t index = blockIdx.x; index < work; index += gridDim.x) {
    const int64_t problem = index / of_problem, query = (index - problem * of_problem) * kQueries;
    const int64_t image = (p.first_problem + problem) % p.images, row = problem * p.queries + query;
    const int64_t place = p.first_problem * p.queries + row;
    const int queries = static_cast<int>(min(p.queries - query, int64_t{kQueries}));
    const int num_segments = segments_of(p, image);
    const int64_t stride = kSampled ? p.count : p.height * p.width;
    const float* points = base_of(p.points + (p.first_problem + problem) * p.count * 2);
    const Mask* logits[kQueries];
    float largest[kQueries], exponentials[kQueries], check[kQueries];  // NaN once a logit is not finite
    bool defined[kQueries];
#pragma unroll
    for (int k = 0; k < kQueries; ++k) {
      const int own = min(k, queries - 1);  // where there is no second query, the first again
      logits[k] = base_of(static_cast<const Mask*>(p.logits) + (row + own) * stride);
      const Class* classes = static_cast<const Class*>(p.class_logits) + (place + own) * (p.classes + 1);
      defined[k] = class_sums<kThreads>(classes, p.classes + 1, &largest[k], &exponentials[k]);
      check[k] = 0.0f;
    }
    for (int first = 0; first < segments; first += kSegments) {
      const float* inside = base_of(p.inside + (problem * p.segments + first) * p.count);
      SegmentSums total[kQueries] = {};
      sum_points<kQueries, kSampled>(p, logits, points, inside, num_segments - first, check, total);
      int wrong = 0;
#pragma unroll
      for (int k = 0; k < kQueries; ++k) {
        entropy[k * kThreads + thread] = total[k].entropy;
        missed[k * kThreads + thread] = total[k].missed;
        wrong |= check[k] == 0.0f && defined[k] ? 0 : 1 << k;
      }
      wrong = block_reduce<kThreads>(wrong, AnyBit());
      const int own = thread / kSegments, t = first + thread % kSegments;
      if (own < queries && t < segments) {
        float* cost = p.cost + (place + own) * p.segments + t;
        double all_entropy = 0.0, all_missed = 0.0, foreground = 0.0;
        for (int warp = 0; warp < kWarps; ++warp) {
          const int at = own * kThreads + 32 * warp;
          all_entropy += entropy[at + t - first];
          all_missed += missed[at + t - first];
          foreground += entropy[at + kSegments];
        }
        if (t >= num_segments) {
          *cost = 0.0f;
        } else if ((wrong >> own & 1) != 0) {
          *cost = INFINITY;
        } else {
          const Class* classes = static_cast<const Class*>(p.class_logits) + (place + own) * (p.classes + 1);
          const int64_t label = p.labels[image * p.segments + t];
          const bool known = label >= 0 && label < p.classes;  // an unknown class is never likely
          const float most = own == 0 ? largest[0] : largest[kQueries - 1];
          const float sum = own == 0 ? exponentials[0] : exponentials[kQueries - 1];
          const float probability = known ? expf(as_float(classes[label]) - most) / sum : 0.0f;
          // Quotients are in float: a double one is a call, whose registers would have to be saved.
          const float all = static_cast<float>(foreground + p.area[problem * p.segments + t]);
          const float dice = static_cast<float>(all_missed) / (all + 1.0f);
          const float count = 1.0f * max(p.count, 1);
          *cost = p.mask_weight * (static_cast<float>(all_entropy) / count) + p.dice_weight * dice -
                  p.class_weight * probability;
        }
      }
      __syncthreads();  // the sums are free for the next segments
    }
  }
}

constexpr int64_t kMostBlocks = 65535;  // more than any GPU runs at once; each loops

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(std::min<int64_t>((items + kThreads - 1) / kThreads, kMostBlocks));
}

template <bool kSampled, class Class, class Mask>
void launch_costs(const Params& params, CUstream_st* stream) {
  const int64_t rows = params.rows(), pairs = params.problems * ((params.queries + 1) / 2);
  const auto blocks = [&](int64_t work) { return static_cast<unsigned>(std::min<int64_t>(work, 1 << 20)); };
  if (pairs < kManyPairs) {
    launch(point_cost_kernel<1, kSampled, Class, Mask>, blocks(rows), kThreads, stream, params, rows);
  } else {
    launch(point_cost_kernel<2, kSampled, Class, Mask>, blocks(pairs), kThreads, stream, params, pairs);
  }
}

}  // namespace
}  // namespace cuda

void point_matching_cost_cuda(const PointMatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows() == 0 || params.segments == 0) return;
  if (params.count > 0) {
    launch(find_shares_kernel, blocks_for(params.problems * params.count), kThreads, stream, params);
  }
  launch(add_shares_kernel, static_cast<unsigned>(params.problems * params.segments), kThreads, stream, params);
  for_cuda_float_type(params.class_dtype, [&](auto* class_pointer) {
    using Class = std::remove_pointer_t<decltype(class_pointer)>;
    if (params.sampled) return launch_costs<true, Class, float>(params, stream);
    for_cuda_float_type(params.logits_dtype, [&](auto* logits_pointer) {
      launch_costs<false, Class, std::remove_pointer_t<decltype(logits_pointer)>>(params, stream);
    });
  });
}

}  // namespace maskformer_ext
