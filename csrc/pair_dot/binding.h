// What the CPU and the CUDA binding of pair_dot share.
#pragma once

#include "common/checks.h"

namespace maskformer_ext {

inline void check_pairs(const Tensor& embed, const Tensor& features) {
  constexpr const char* op = "pair_dot";
  check_dim(embed, 3, op, "embed");
  check_dim(features, 3, op, "features");
  STD_TORCH_CHECK(embed.size(2) == features.size(1) && embed.scalar_type() == features.scalar_type(), op,
                  ": embed (P, L, C) and features (B, C, N) must have one C and one dtype, got ", shape_string(embed),
                  " and ", shape_string(features));
}

}  // namespace maskformer_ext
