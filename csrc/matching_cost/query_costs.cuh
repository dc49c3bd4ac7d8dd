// A query of matching_cost on a GPU: where its numbers lie, and its costs from its sums.
#pragma once

#include <cmath>

#include "common/cuda_types.cuh"
#include "matching_cost/matching_cost_cuda.h"
#include "matching_cost/target_segments.cuh"

namespace maskformer_ext::cuda {

// Up to kQueries neighbouring queries of a layer and an image, and where the numbers of the first lie.
template <int kQueries, class Class, class Mask>
struct Rows {
  int64_t image;
  int num_segments, count;  // of queries
  const Class* classes;
  const Mask* logits;
  float* cost;

  __device__ Rows(const MatchingCostCudaParams& p, int64_t index) {
    // In 32 bits: the division of 64-bit integers is a call, whose registers would have to be saved.
    const auto queries = static_cast<unsigned>(p.queries), images = static_cast<unsigned>(p.chunk_images);
    const unsigned of_image = (queries + kQueries - 1) / kQueries;
    const unsigned layer_and_image = static_cast<unsigned>(index) / of_image;
    const unsigned query = (static_cast<unsigned>(index) - layer_and_image * of_image) * kQueries;
    const unsigned layer = layer_and_image / images, of_chunk = layer_and_image - layer * images;
    count = static_cast<int>(min(queries - query, static_cast<unsigned>(kQueries)));
    image = p.first_image + of_chunk;
    num_segments = segments_of(p, image);
    const int64_t place = ((p.first_layer + layer) * p.images + image) * p.queries + query;
    classes = static_cast<const Class*>(p.class_logits) + place * (p.classes + 1);
    logits = static_cast<const Mask*>(p.mask_logits) + (layer_and_image * p.queries + query) * p.pixels();
    cost = p.cost + place * p.segments;
  }
};

// Combines flags of threads.
struct AnyBit {
  __device__ __forceinline__ int operator()(int a, int b) const { return a | b; }
};

// What the threads that write costs know about a query.
struct Query {
  bool finite;
  float largest, exponentials;  // of the class logits
};

// A query's sums for a segment. `missed` has the probability of what is outside and one minus that of what is inside.
struct SegmentSums {
  double focal, foreground, missed;
};

template <class T>
__device__ void write_cost(const MatchingCostCudaParams& p, const T* logits, const Query& query, int64_t image,
                           int segment, float counted, const SegmentSums& sums, float* cost) {
  if (!query.finite) {
    *cost = INFINITY;
    return;
  }
  const int64_t label = p.labels[image * p.segments + segment];
  const bool known = label >= 0 && label < p.classes;  // an unknown class is never likely
  const float probability = known ? expf(as_float(logits[label]) - query.largest) / query.exponentials : 0.0f;
  // Quotients are in float: a double one is a call, whose registers would have to be saved.
  const float area = static_cast<float>(p.group_area[image * (p.segments + 1) + segment]);
  const float dice = static_cast<float>(sums.missed) / (static_cast<float>(sums.foreground) + area + 1.0f);
  *cost =
      p.focal_weight * (static_cast<float>(sums.focal) / counted) + p.dice_weight * dice - p.class_weight * probability;
}

// Calls body(kSquare, class pointer, mask pointer): whether gamma is 2, and null pointers to the types of the logits.
template <class Body>
void for_types_of(const MatchingCostCudaParams& params, Body&& body) {
  for_cuda_float_type(params.class_dtype, [&](auto* class_pointer) {
    for_cuda_float_type(params.mask_dtype, [&](auto* mask_pointer) {
      if (params.gamma == 2.0f) {
        body(std::true_type(), class_pointer, mask_pointer);
      } else {
        body(std::false_type(), class_pointer, mask_pointer);
      }
    });
  });
}

inline unsigned blocks_for(const MatchingCostCudaParams& params, int64_t work) {
  return static_cast<unsigned>(work < params.blocks ? work : params.blocks);
}

}  // namespace maskformer_ext::cuda
