// The candidates at which a mask's sampled logit is nearest to 0: the contract of the kernels, torch-free.
//
// The bits of |logit| order numbers as integers. The first digit is counted for all candidates, which leaves few that
// may be the last one chosen.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

struct UncertainPointsParams {
  const void* logits;  // (N, h, w), the last dimension contiguous
  DType dtype;
  int64_t mask_stride, row_stride;  // in elements
  int64_t masks, height, width;     // N, h, w

  const float* candidates;  // (N, M, 2) contiguous
  int64_t num_candidates;   // M
  int64_t count;            // how many are chosen, at most M
  float* chosen;            // (N, count, 2) out, in the order of the candidates
};

// Chooses for masks [begin, end).
MASKFORMER_EXT_CPU_KERNEL(uncertain_points, const UncertainPointsParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
