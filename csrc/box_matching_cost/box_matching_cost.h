// Cost of assigning each predicted box to each object of its image: the contract of the kernels, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// A row is a query of a layer and an image. Rows are ordered (layers, images, queries).
struct BoxMatchingCostParams {
  const void* logits;  // (rows, classes) contiguous
  DType logits_dtype;
  const void* boxes;  // (rows, 4) contiguous: centre x, centre y, width, height
  DType boxes_dtype;
  const float* target_boxes;    // (images, targets, 4)
  const int64_t* labels;        // (images, targets)
  const int64_t* num_segments;  // (images,)
  int64_t rows, images, queries, classes, targets;

  bool softmax;  // the class cost is -softmax; otherwise it is the focal one
  float class_weight, box_weight, giou_weight;
  float alpha_positive, alpha_negative, gamma;  // of the focal class cost

  float* cost;  // (rows, targets) out
};

// The working memory of one thread. `lanes` below is the widest vector's.
struct BoxMatchingCostScratch {
  static constexpr int64_t lanes = 16;
  float* target_boxes;  // (4, targets rounded up to lanes), a row per coordinate
  float* logits;        // (targets rounded up to lanes,) the logit of each object's class
  float* costs;         // (targets rounded up to lanes,)
  float* row;           // (classes rounded up to lanes,)
};

// Writes the costs of rows [begin, end). Labels and num_segments must be in range.
MASKFORMER_EXT_CPU_KERNEL(box_matching_cost_fwd, const BoxMatchingCostParams& params,
                          const BoxMatchingCostScratch& scratch, int64_t begin, int64_t end);

// The same on a GPU, for all rows. A label out of range costs +inf, and num_segments is clamped.
void box_matching_cost_fwd_cuda(const BoxMatchingCostParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
