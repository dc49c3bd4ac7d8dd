// Binary masks of queries at the output size, with what a score and a box need: the contract of the kernel, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/mask_source.h"

namespace maskformer_ext {

// What one block of output rows of one query holds.
struct InstancePart {
  double probability;                // sum of the mask probabilities inside the mask
  int64_t pixels;                    // inside the mask
  int64_t left, top, right, bottom;  // half-open box of these pixels; right = 0 where there are none
};

constexpr void join(InstancePart& whole, const InstancePart& part) {
  if (part.pixels == 0) return;
  whole.probability += part.probability;
  whole.pixels += part.pixels;
  whole.left = part.left < whole.left ? part.left : whole.left;
  whole.top = part.top < whole.top ? part.top : whole.top;
  whole.right = part.right > whole.right ? part.right : whole.right;
  whole.bottom = part.bottom > whole.bottom ? part.bottom : whole.bottom;
}

// The mean probability inside a mask () and its box (4,), both 0 where it has no pixel.
constexpr void write_instance(const InstancePart& whole, float* mean, float* box) {
  const bool empty = whole.pixels == 0;
  *mean = empty ? 0.0f : static_cast<float>(whole.probability / static_cast<double>(whole.pixels));
  box[0] = empty ? 0.0f : static_cast<float>(whole.left);
  box[1] = empty ? 0.0f : static_cast<float>(whole.top);
  box[2] = static_cast<float>(whole.right);
  box[3] = static_cast<float>(whole.bottom);
}

struct InstanceParams {
  MaskSource masks;
  float threshold;         // a logit above this is inside
  int64_t rows_per_block;  // sums are formed per block, so that they do not depend on the threads
  int64_t blocks;          // per query
  int64_t row_bytes;       // ceil(W / 8)
  uint8_t* bits;           // (count, H, row_bytes) out: eight pixels per byte, the lowest bit leftmost
  InstancePart* parts;     // (count, blocks) out
};

// Writes items [begin, end) of the count * blocks. Item i is block i % blocks of query number i / blocks.
MASKFORMER_EXT_CPU_KERNEL(instance_blocks, const InstanceParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
