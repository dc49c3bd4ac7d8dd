// CUDA kernels of point_matching_cost: shares of points, then sums of queries. A block takes one query at a time.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "common/point_sample.cuh"
#include "matching_cost/class_sums.cuh"
#include "point_matching_cost/point_matching_cost_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PointMatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTile = 1024;  // points whose terms all segments share
constexpr int kSampleThreads = 512, kSamplePoints = 2, kSampleChannels = 16;

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

// The logit of a query at a point.
template <class Mask>
__device__ __forceinline__ float logit_at(const Params& p, const Mask* logits, const float* points, int point) {
  if (p.sampled) return as_float(logits[point]);
  return sample_map(logits, point_taps(points[2 * point], points[2 * point + 1], p.height, p.width, p.width));
}

template <class Class, class Mask>
__global__ void __launch_bounds__(kThreads, 4) point_cost_kernel(Params p) {
  MASKFORMER_EXT_SHARED(float, positive, kTile);
  MASKFORMER_EXT_SHARED(float, negative, kTile);
  MASKFORMER_EXT_SHARED(float, covered, kTile);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  double* sums = p.sums + blockIdx.x * 3 * p.segments;
  for (int64_t row = blockIdx.x; row < p.rows(); row += gridDim.x) {
    const int64_t problem = row / p.queries, image = (p.first_problem + problem) % p.images;
    const int64_t place = p.first_problem * p.queries + row;
    const int num_segments = segments_of(p, image);
    const Class* classes = static_cast<const Class*>(p.class_logits) + place * (p.classes + 1);
    const Mask* logits = static_cast<const Mask*>(p.logits) + row * (p.sampled ? p.count : p.height * p.width);
    const float* points = p.points + (p.first_problem + problem) * p.count * 2;
    const float* inside = p.inside + problem * p.segments * p.count;
    for (int t = warp; t < num_segments; t += kWarps) {
      if (lane < 3) sums[3 * t + lane] = 0.0;
    }
    float largest, exponentials;
    bool finite_row = class_sums<kThreads>(classes, p.classes + 1, &largest, &exponentials);
    int wrong = 0;
    double foreground = 0.0;
    for (int first = 0; first < p.count; first += kTile) {
      __syncthreads();
      const int tile = min(kTile, p.count - first);
      for (int i = threadIdx.x; i < tile; i += kThreads) {
        const float x = logit_at(p, logits, points, first + i);
        wrong |= !finite(x);
        const Logistic<float> l = logistic(x);
        positive[i] = l.softplus_negative;
        negative[i] = l.softplus;
        covered[i] = l.sigmoid;
        foreground += l.sigmoid;
      }
      __syncthreads();
      for (int t = warp; t < num_segments; t += kWarps) {
        const float* shares = inside + static_cast<int64_t>(t) * p.count + first;
        float entropy = 0.0f, both = 0.0f, area = 0.0f;
        for (int i = lane; i < tile; i += 32) {  // at most 32 of a lane; the outside is summed, not subtracted
          const float share = shares[i];
          entropy += share * positive[i] + (1.0f - share) * negative[i];
          both += share * covered[i];
          area += share;
        }
        const double all_entropy = warp_sum(static_cast<double>(entropy));
        const double all_both = warp_sum(static_cast<double>(both));
        const double all_area = warp_sum(static_cast<double>(area));
        if (lane == 0) {
          sums[3 * t] += all_entropy;
          sums[3 * t + 1] += all_both;
          sums[3 * t + 2] += all_area;
        }
      }
    }
    foreground = block_reduce<kThreads>(foreground, Add());
    finite_row = block_reduce<kThreads>(wrong, Largest()) == 0 && finite_row;
    const float count = 1.0f * max(p.count, 1);
    for (int t = threadIdx.x; t < p.segments; t += kThreads) {
      float* cost = p.cost + place * p.segments + t;
      if (t >= num_segments) {
        *cost = 0.0f;
      } else if (!finite_row) {
        *cost = INFINITY;
      } else {
        const int64_t label = p.labels[image * p.segments + t];
        const bool known = label >= 0 && label < p.classes;  // an unknown class is never likely
        const float probability = known ? expf(as_float(classes[label]) - largest) / exponentials : 0.0f;
        // Quotients are in float: a double one is a call, whose registers would have to be saved.
        const float both = static_cast<float>(sums[3 * t + 1]);
        const float all = static_cast<float>(foreground + sums[3 * t + 2]);
        const float dice = 1.0f - (2.0f * both + 1.0f) / (all + 1.0f);
        *cost = p.mask_weight * (static_cast<float>(sums[3 * t]) / count) + p.dice_weight * dice -
                p.class_weight * probability;
      }
    }
    __syncthreads();  // sums are free for the next query
  }
}

// Where the four pixels of a point lie in a plane of any strides, and their weights.
struct FeatureTaps {
  int64_t offset[4];
  float weight[4];
};

__device__ __forceinline__ FeatureTaps feature_taps(const SampleFeaturesParams& p, const float* at) {
  const PointTaps taps = point_taps(at[0], at[1], p.height, p.width, p.width);
  const auto width = static_cast<unsigned>(p.width);  // planes have fewer than 2^30 pixels
  const auto first = static_cast<unsigned>(taps.index[0]), last = static_cast<unsigned>(taps.index[3]);
  const int64_t upper = first / width * p.row_stride, left = first % width * p.column_stride;
  const int64_t lower = last / width * p.row_stride, right = last % width * p.column_stride;
  FeatureTaps result = {{upper + left, upper + right, lower + left, lower + right}, {}};
  for (int tap = 0; tap < 4; ++tap) result.weight[tap] = taps.weight[tap];
  return result;
}

// A block takes kSampleThreads * kSamplePoints points and kSampleChannels channels at a time. A thread finds the taps
// of its points once for all of these channels. Points of one block share a plane, which stays in the first-level
// cache.
template <class T>
__global__ void __launch_bounds__(kSampleThreads, 2) sample_features_kernel(SampleFeaturesParams p) {
  constexpr int64_t points_per_block = kSampleThreads * kSamplePoints;
  const int64_t parts = (p.count + points_per_block - 1) / points_per_block;
  const int64_t groups = (p.channels + kSampleChannels - 1) / kSampleChannels;
  for (int64_t item = blockIdx.x; item < p.problems * groups * parts; item += gridDim.x) {
    const int64_t part = item % parts, group = item / parts % groups, problem = item / parts / groups;
    const int64_t image = (p.first_problem + problem) % p.images;
    const int64_t first = group * kSampleChannels;
    const int channels = static_cast<int>(min(p.channels - first, int64_t{kSampleChannels}));
    const float* points = p.points + (p.first_problem + problem) * p.count * 2;
    const T* plane = static_cast<const T*>(p.features) + image * p.image_stride + first * p.channel_stride;
    float* out = p.out + (problem * p.channels + first) * p.count;
    FeatureTaps taps[kSamplePoints];
    const int point = static_cast<int>(part * points_per_block) + static_cast<int>(threadIdx.x);
    const int count = static_cast<int>(p.count);
#pragma unroll
    for (int i = 0; i < kSamplePoints; ++i) {
      taps[i] = feature_taps(p, points + 2 * min(point + i * kSampleThreads, count - 1));
    }
#pragma unroll 1
    for (int channel = 0; channel < channels; ++channel, plane += p.channel_stride, out += p.count) {
      float value[kSamplePoints][4];
#pragma unroll
      for (int i = 0; i < kSamplePoints; ++i) {
#pragma unroll
        for (int tap = 0; tap < 4; ++tap) value[i][tap] = as_float(plane[taps[i].offset[tap]]);
      }
#pragma unroll
      for (int i = 0; i < kSamplePoints; ++i) {
        const int place = point + i * kSampleThreads;
        if (place < count) out[place] = blend_taps(taps[i].weight, value[i]);
      }
    }
  }
}

constexpr int64_t kMostBlocks = 65535;  // more than any GPU runs at once; each loops

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(std::min<int64_t>((items + kThreads - 1) / kThreads, kMostBlocks));
}

}  // namespace
}  // namespace cuda

void point_matching_cost_cuda(const PointMatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows() == 0 || params.segments == 0) return;
  if (params.count > 0) {
    launch(find_shares_kernel, blocks_for(params.problems * params.count), kThreads, stream, params);
  }
  const auto blocks = static_cast<unsigned>(params.rows() < params.blocks ? params.rows() : params.blocks);
  for_cuda_float_type(params.class_dtype, [&](auto* class_pointer) {
    for_cuda_float_type(params.logits_dtype, [&](auto* logits_pointer) {
      using Class = std::remove_pointer_t<decltype(class_pointer)>;
      using Mask = std::remove_pointer_t<decltype(logits_pointer)>;
      launch(point_cost_kernel<Class, Mask>, blocks, kThreads, stream, params);
    });
  });
}

void sample_features_cuda(const SampleFeaturesParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.problems * params.channels * params.count == 0) return;
  constexpr int64_t points = kSampleThreads * kSamplePoints;
  const int64_t parts = (params.count + points - 1) / points;
  const int64_t groups = (params.channels + kSampleChannels - 1) / kSampleChannels;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(params.problems * groups * parts, kMostBlocks));
  for_cuda_float_type(params.dtype, [&](auto* pointer) {
    launch(sample_features_kernel<std::remove_pointer_t<decltype(pointer)>>, blocks, kSampleThreads, stream, params);
  });
}

}  // namespace maskformer_ext
