// CUDA kernel that samples the channels of mask features at points, for point_matching_cost_from_embeddings.
#include <algorithm>

#include "common/cuda_types.cuh"
#include "common/point_sample.cuh"
#include "point_matching_cost/point_matching_cost_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kSampleThreads = 512, kSamplePoints = 2, kSampleChannels = 16;
constexpr int64_t kMostBlocks = 65535;  // more than any GPU runs at once; each loops

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

}  // namespace
}  // namespace cuda

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
