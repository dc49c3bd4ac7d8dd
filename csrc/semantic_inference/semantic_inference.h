// Class scores of every pixel, sum over queries of probability[k] * sigmoid(mask logit), and the best class: contract
// of the kernel, torch-free.
//
// Nothing of the size queries x pixels or classes x pixels is stored: a few vectors of pixels at a time go through
// resize, sigmoid, the product with the class probabilities and the maximum.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

struct SemanticParams {
  const void* mask_logits;  // (Q, h, w), the last dimension contiguous
  DType dtype;
  int64_t query_stride, row_stride;  // in elements
  int64_t height, width;             // h, w
  const int64_t* queries;            // (active,) the queries that count
  int64_t active;
  const float* probability;  // (Q, K) contiguous
  int64_t classes;           // K

  int64_t input_height, input_width;  // the padded network input, 0: the logits are resized once
  int64_t crop_height, crop_width;    // its valid part
  int64_t out_height, out_width;      // H, W
  bool flip;
  bool scores_first;  // scores at the network input (or h, w), then resized, instead of resized logits

  int64_t* labels;  // (H, W) out, or null
  float* scores;    // (K, H, W) added to where labels is null
  float weight;     // factor of the scores
};

// Output rows [begin, end).
MASKFORMER_EXT_CPU_KERNEL(semantic_rows, const SemanticParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
