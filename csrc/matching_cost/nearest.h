// The nearest neighbour as torch's interpolate computes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/cpu_dispatch.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Writes the source position of each of out_size positions: the position times a float scale, rounded down.
inline void nearest_positions(int64_t in_size, int64_t out_size, int32_t* source) {
  const float scale = static_cast<float>(in_size) / static_cast<float>(out_size);
  const int32_t last = static_cast<int32_t>(in_size - 1);
  for (int64_t i = 0; i < out_size; ++i) {
    source[i] = std::min(static_cast<int32_t>(std::floor(static_cast<float>(i) * scale)), last);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
