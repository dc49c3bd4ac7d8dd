// The query that wins each pixel, and how many pixels each query wins and has: the contract of the kernel, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/mask_source.h"

namespace maskformer_ext {

// A query's row of the table of segments: id (0: no segment), category, isthing, score, pixels won.
inline constexpr int kPanopticColumns = 5;

// Whether the pixels that a query won are enough of its own to be a segment. Transformers weights the area and divides
// in single precision.
constexpr bool panoptic_accepted(int64_t won, int64_t own, double threshold, bool weighted_area) {
  if (won == 0 || own == 0) return false;
  if (weighted_area) return static_cast<double>(static_cast<float>(won) / static_cast<float>(own)) > threshold;
  return static_cast<double>(won) / static_cast<double>(own) >= threshold;
}

struct PanopticParams {
  MaskSource masks;          // of the queries that are kept
  const float* score;        // (count,) their class probabilities
  float mask_threshold;      // least value of a pixel that a query has
  bool probabilities_first;  // sigmoid at the network input, then resized, instead of resized logits
  bool weighted_area;        // a query has a pixel where probability times score reaches the threshold
  int64_t rows_per_block;    // rows are counted in blocks, so that sums do not depend on the threads
  int32_t* winner;           // (H, W) out: the first query with the largest score times probability
  int64_t* won;              // (blocks, count) out: pixels that it wins
  int64_t* own;              // (blocks, count) out: pixels that it has
};

// Finds the winners in blocks [begin, end) of output rows.
MASKFORMER_EXT_CPU_KERNEL(panoptic_blocks, const PanopticParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
