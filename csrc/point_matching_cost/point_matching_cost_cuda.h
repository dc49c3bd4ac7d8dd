// Point matching cost on a GPU: what the launchers take. Torch-free.
//
// A problem is an image in a layer. For some problems at a time, the share of every point in every segment is written.
// It stays in the second-level cache while all queries read it. A block takes one query at a time. Its threads sample
// a tile of points and share the terms. Then its warps share out the segments.
#pragma once

#include <cstdint>

#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct PointMatchingCostCudaParams {
  const void* class_logits;  // (layers, images, queries, classes + 1) of class_dtype
  DType class_dtype;
  const int64_t* labels;        // (images, segments)
  const int64_t* num_segments;  // (images,)
  int64_t images, queries, classes, segments;
  float class_weight, mask_weight, dice_weight;
  float* cost;  // (layers, images, queries, segments)

  const float* points;  // (layers, images, count, 2)
  int count;
  const void* pixels;  // (images, target_height, target_width) int16 or int32, or (images, segments, ...) uint8
  bool wide, from_masks, nearest;
  int64_t target_height, target_width;

  int64_t first_problem, problems;  // those whose logits are given; problem = layer * images + image
  const void* logits;               // (problems, queries, height * width) of logits_dtype
  DType logits_dtype;
  int64_t height, width;
  bool sampled;  // logits are (problems, queries, count), at the points already

  float* inside;  // (problems, segments, count) workspace: the share of each point
  double* area;   // (problems, segments) workspace: the sum of the shares
  constexpr int64_t rows() const { return problems * queries; }
};

// Writes the shares of the points, then the costs.
void point_matching_cost_cuda(const PointMatchingCostCudaParams& params, CUstream_st* stream);

struct SampleFeaturesParams {
  const void* features;  // (images, channels, height, width) of dtype, with the strides below, in elements
  DType dtype;
  int64_t image_stride, channel_stride, row_stride, column_stride;
  int64_t images, channels, height, width;
  const float* points;  // (layers, images, count, 2)
  int64_t count, first_problem, problems;
  float* out;  // (problems, channels, count)
};

void sample_features_cuda(const SampleFeaturesParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
