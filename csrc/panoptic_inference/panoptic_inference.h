// The query that wins each pixel, and how many pixels each query wins and has: the contract of the kernel, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/mask_source.h"

namespace maskformer_ext {

// A query's row of the table of segments: id (0: no segment), category, isthing, score, pixels that are painted.
inline constexpr int kPanopticColumns = 5;

// Whether a query becomes a segment. `painted` counts the pixels that would be its segment. It needs one, and of its
// own enough that it won. Transformers divides in single precision and wants more than the threshold.
constexpr bool panoptic_accepted(int64_t won, int64_t own, int64_t painted, double threshold, bool strict) {
  if (own == 0 || painted == 0) return false;
  if (strict) return static_cast<double>(static_cast<float>(won) / static_cast<float>(own)) > threshold;
  return static_cast<double>(won) / static_cast<double>(own) >= threshold;
}

struct PanopticParams {
  MaskSource masks;          // of the queries that are kept
  const float* score;        // (count,) their class probabilities
  float mask_threshold;      // least value of a pixel that a query has
  bool probabilities_first;  // sigmoid at the network input, then resized, instead of resized logits
  bool of_logits;            // a query's values are its resized logits, without the sigmoid
  bool weighted_area;        // a query has a pixel where probability times score reaches the threshold
  bool paint_own;            // only pixels that their winner has are painted
  int64_t rows_per_block;    // rows are counted in blocks, so that sums do not depend on the threads
  int32_t* winner;   // (H, W) out: the first query with the largest score times probability, ~query: not painted
  int64_t* won;      // (blocks, count) out: pixels that it wins
  int64_t* own;      // (blocks, count) out: pixels that it has
  int64_t* painted;  // (blocks, count) out, with paint_own: pixels that it wins and has
};

// Finds the winners in blocks [begin, end) of output rows.
MASKFORMER_EXT_CPU_KERNEL(panoptic_blocks, const PanopticParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
