// Class scores of every pixel and the best class: the contract of the kernel, torch-free.
//
// The score of class k is the sum over queries of probability[k] * sigmoid(mask logit). Nothing of the size queries x
// pixels or classes x pixels is stored. A few vectors of pixels at a time go through four steps: resize, sigmoid, the
// product with the class probabilities, the maximum.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/mask_source.h"

namespace maskformer_ext {

struct SemanticParams {
  MaskSource masks;
  const float* probability;  // (Q, K) contiguous
  int64_t classes;           // K
  bool scores_first;         // scores at the network input, then resized, instead of resized logits

  int64_t* labels;  // (H, W) out, or null
  float* scores;    // (K, H, W) added to where labels is null
  float weight;     // factor of the scores
};

// Does output rows [begin, end).
MASKFORMER_EXT_CPU_KERNEL(semantic_rows, const SemanticParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
