// Masks of positive logits as they are stored, with the sums behind their scores: the contract of the kernel,
// torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"

namespace maskformer_ext {

struct PositiveParams {
  const float* logits;               // (Q, height, width), the last dimension contiguous
  const int64_t* queries;            // (count,) which of the Q
  int64_t query_stride, row_stride;  // in elements
  int64_t height, width;
  uint8_t* bits;    // (count, height, ceil(width / 8)) out: eight pixels per byte, the lowest bit leftmost
  double* sums;     // (count,) out: probabilities inside the mask; NaN where a logit of the query is NaN
  int64_t* pixels;  // (count,) out: inside the mask
};

// Writes masks [begin, end) of the count.
MASKFORMER_EXT_CPU_KERNEL(positive_masks, const PositiveParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext

// The same of all masks, for Python's ctypes.
extern "C" __attribute__((visibility("default"))) void maskformer_ext_positive_masks(
    const float* logits, const int64_t* queries, int64_t count, int64_t query_stride, int64_t row_stride,
    int64_t height, int64_t width, uint8_t* bits, double* sums, int64_t* pixels);
