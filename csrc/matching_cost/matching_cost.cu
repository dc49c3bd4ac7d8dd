// CUDA kernels of matching_cost, on targets that matching_cost_targets.cu prepared. A block takes one query at a time.
#include <cfloat>
#include <cmath>

#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "matching_cost/class_sums.cuh"
#include "matching_cost/matching_cost_cuda.h"
#include "matching_cost/target_segments.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTile = 1024;  // pixels of masks whose terms are shared by all segments

struct Terms {
  float positive, negative, foreground;
};

__device__ __forceinline__ Terms terms_of(const Params& p, float x) {
  const Logistic<float> l = logistic(x);
  const float s = l.sigmoid, c = l.sigmoid_complement;
  const bool square = p.gamma == 2.0f;
  const float positive = square ? c * c : expf(-p.gamma * l.softplus);
  const float negative = square ? s * s : expf(-p.gamma * l.softplus_negative);
  return {positive * l.softplus_negative, negative * l.softplus, s};
}

// A query of a layer and an image, and where its numbers lie.
template <class Class, class Mask>
struct Row {
  int64_t image;
  int num_segments;
  const Class* classes;
  const Mask* logits;
  float* cost;

  __device__ Row(const Params& p, int64_t row) {
    // In 32 bits: the division of 64-bit integers is a call, whose registers would have to be saved.
    const unsigned layer_rows = static_cast<unsigned>(p.chunk_images * p.queries);
    const unsigned layer = static_cast<unsigned>(row) / layer_rows, of_layer = static_cast<unsigned>(row) % layer_rows;
    const unsigned of_chunk = of_layer / static_cast<unsigned>(p.queries);
    image = p.first_image + of_chunk;
    num_segments = segments_of(p, image);
    const int64_t place = ((p.first_layer + layer) * p.images + image) * p.queries + (of_layer - of_chunk * p.queries);
    classes = static_cast<const Class*>(p.class_logits) + place * (p.classes + 1);
    logits = static_cast<const Mask*>(p.mask_logits) + row * p.pixels();
    cost = p.cost + place * p.segments;
  }
};

// What the threads that write costs know about a query.
struct Query {
  bool finite;
  float largest, exponentials;  // of the class logits
  double foreground;
  float counted;
};

template <class T>
__device__ void write_cost(const Params& p, const T* logits, const Query& query, int64_t image, int segment,
                           double focal, double inside, float* cost) {
  if (!query.finite) {
    *cost = INFINITY;
    return;
  }
  const int64_t label = p.labels[image * p.segments + segment];
  const bool known = label >= 0 && label < p.classes;  // an unknown class is never likely
  const float probability = known ? expf(as_float(logits[label]) - query.largest) / query.exponentials : 0.0f;
  // Quotients are in float: a double one is a call, whose registers would have to be saved.
  const float area = static_cast<float>(p.group_area[image * (p.segments + 1) + segment]);
  const float dice =
      1.0f - (2.0f * static_cast<float>(inside) + 1.0f) / (static_cast<float>(query.foreground) + area + 1.0f);
  *cost = p.focal_weight * (static_cast<float>(focal) / query.counted) + p.dice_weight * dice -
          p.class_weight * probability;
}

// Sums every item of a query. Returns whether a logit of this thread is not finite.
template <class T>
__device__ bool sum_items(const Params& p, const T* logits, int64_t image, double* sums) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int* order = p.order + image * p.pixels();
  const int num_items = p.num_items[image];
  bool wrong = false;
  for (int i = warp; i < num_items; i += kWarps) {
    const int* item = p.item + (image * p.max_items + i) * 3;
    float positive = 0.0f, negative = 0.0f, foreground = 0.0f;
    for (int place = item[1] + lane; place < item[2]; place += 32) {  // at most 32 of a lane
      const float x = as_float(logits[order[place]]);
      wrong |= !finite(x);
      const Terms terms = terms_of(p, x);
      positive += terms.positive;
      negative += terms.negative;
      foreground += terms.foreground;
    }
    const double all_positive = warp_sum(static_cast<double>(positive));
    const double all_negative = warp_sum(static_cast<double>(negative));
    const double all_foreground = warp_sum(static_cast<double>(foreground));
    if (lane == 0) {
      sums[3 * i] = all_positive;
      sums[3 * i + 1] = all_negative;
      sums[3 * i + 2] = all_foreground;
    }
  }
  if (p.ignore_void) {  // a void pixel is in no item, but its logit must be finite all the same
    for (int64_t i = threadIdx.x; i < p.pixels(); i += kThreads) wrong |= !finite(as_float(logits[i]));
  }
  return wrong;
}

template <class Class, class Mask>
__global__ void __launch_bounds__(kThreads) map_cost_kernel(Params p) {
  const double positive_factor = p.alpha < 0.0f ? 1.0 : static_cast<double>(p.alpha);
  const double negative_factor = p.alpha < 0.0f ? 1.0 : 1.0 - static_cast<double>(p.alpha);
  double* sums = p.sums + blockIdx.x * p.sums_stride;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const Row<Class, Mask> at(p, row);
    const int64_t image = at.image;
    Query query;
    query.finite = class_sums<kThreads>(at.classes, p.classes + 1, &query.largest, &query.exponentials);
    const int wrong = sum_items(p, at.logits, image, sums);
    query.finite = block_reduce<kThreads>(wrong, Largest()) == 0 && query.finite;  // after it, sums are complete
    const int num_items = p.num_items[image];
    query.counted = 1.0f * max(num_items > 0 ? p.item[(image * p.max_items + num_items - 1) * 3 + 2] : 0, 1);
    for (int t = threadIdx.x; t < p.segments; t += kThreads) {
      float* cost = at.cost + t;
      if (t >= at.num_segments) {
        *cost = 0.0f;
        continue;
      }
      double positive = 0.0, negative = 0.0, inside = 0.0;
      query.foreground = 0.0;
      for (int i = 0; i < num_items; ++i) {  // the outside has its own sum: a total minus the inside would cancel
        const bool own = p.item[(image * p.max_items + i) * 3] == t;
        positive += own ? sums[3 * i] : 0.0;
        negative += own ? 0.0 : sums[3 * i + 1];
        inside += own ? sums[3 * i + 2] : 0.0;
        query.foreground += sums[3 * i + 2];
      }
      const double focal = positive_factor * positive + negative_factor * negative;
      write_cost(p, at.classes, query, image, t, focal, inside, cost);
    }
    __syncthreads();  // sums are free for the next query
  }
}

template <class Class, class Mask>
__global__ void __launch_bounds__(kThreads, 4) mask_cost_kernel(Params p) {
  MASKFORMER_EXT_SHARED(float, positive, kTile);
  MASKFORMER_EXT_SHARED(float, negative, kTile);
  MASKFORMER_EXT_SHARED(float, inside, kTile);
  const double positive_factor = p.alpha < 0.0f ? 1.0 : static_cast<double>(p.alpha);
  const double negative_factor = p.alpha < 0.0f ? 1.0 : 1.0 - static_cast<double>(p.alpha);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, pixels = static_cast<int>(p.pixels());
  double* sums = p.sums + blockIdx.x * p.sums_stride;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const Row<Class, Mask> at(p, row);
    const int64_t image = at.image;
    const uint32_t* bits = p.bits + image * (p.segments + 1) * p.words;
    const uint32_t* counts = bits + p.segments * p.words;
    for (int t = warp; t < at.num_segments; t += kWarps) {
      if (lane < 2) sums[2 * t + lane] = 0.0;
    }
    Query query;
    query.finite = class_sums<kThreads>(at.classes, p.classes + 1, &query.largest, &query.exponentials);
    int wrong = 0;
    double foreground = 0.0;
    for (int first = 0; first < pixels; first += kTile) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile; i += kThreads) {
        const int pixel = first + i;
        Terms terms = {0.0f, 0.0f, 0.0f};
        if (pixel < pixels) {
          const float x = as_float(at.logits[pixel]);
          wrong |= !finite(x);
          if (counts[pixel / 32] >> (pixel % 32) & 1u) terms = terms_of(p, x);
        }
        positive[i] = terms.positive;
        negative[i] = terms.negative;
        inside[i] = terms.foreground;
        foreground += terms.foreground;
      }
      __syncthreads();
      const int tile_words = min(kTile / 32, p.words - first / 32);
      for (int t = warp; t < at.num_segments; t += kWarps) {
        const uint32_t* words = bits + static_cast<int64_t>(t) * p.words + first / 32;
        float in = 0.0f, out = 0.0f, covered = 0.0f;
        for (int w = 0; w < tile_words; ++w) {
          const bool own = words[w] >> lane & 1u;
          in += own ? static_cast<float>(positive[32 * w + lane]) : 0.0f;
          out += own ? 0.0f : static_cast<float>(negative[32 * w + lane]);
          covered += own ? static_cast<float>(inside[32 * w + lane]) : 0.0f;
        }
        const double focal =
            positive_factor * warp_sum(static_cast<double>(in)) + negative_factor * warp_sum(static_cast<double>(out));
        const double all_covered = warp_sum(static_cast<double>(covered));
        if (lane == 0) {
          sums[2 * t] += focal;
          sums[2 * t + 1] += all_covered;
        }
      }
    }
    query.foreground = block_reduce<kThreads>(foreground, Add());
    query.finite = block_reduce<kThreads>(wrong, Largest()) == 0 && query.finite;
    query.counted = 1.0f * max(p.group_area[image * (p.segments + 1) + p.segments], 1);
    for (int t = threadIdx.x; t < p.segments; t += kThreads) {
      float* cost = at.cost + t;
      if (t < at.num_segments) {
        write_cost(p, at.classes, query, image, t, sums[2 * t], sums[2 * t + 1], cost);
      } else {
        *cost = 0.0f;
      }
    }
    __syncthreads();
  }
}

}  // namespace
}  // namespace cuda

void matching_cost_rows_cuda(const MatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows == 0 || params.segments == 0) return;
  const auto blocks = static_cast<unsigned>(params.rows < params.blocks ? params.rows : params.blocks);
  for_cuda_float_type(params.class_dtype, [&](auto* class_pointer) {
    for_cuda_float_type(params.mask_dtype, [&](auto* mask_pointer) {
      using Class = std::remove_pointer_t<decltype(class_pointer)>;
      using Mask = std::remove_pointer_t<decltype(mask_pointer)>;
      if (params.masks == nullptr) {
        launch(map_cost_kernel<Class, Mask>, blocks, kThreads, stream, params);
      } else {
        launch(mask_cost_kernel<Class, Mask>, blocks, kThreads, stream, params);
      }
    });
  });
}

}  // namespace maskformer_ext
