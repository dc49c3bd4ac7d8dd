// The checks of a call of pair_dot, shared by its CPU and CUDA bindings.
#pragma once

#include "torch/checks.h"

namespace maskformer_ext {

// Checks the shapes of embeddings and features, and that they have one dtype.
inline void check_pairs(const char* op, const Tensor& embed, const Tensor& features) {
  check_dim(embed, 3, op, "embed");
  check_dim(features, 3, op, "features");
  STD_TORCH_CHECK(embed.size(2) == features.size(1) && embed.scalar_type() == features.scalar_type(), op,
                  ": embed (P, L, C) and features (B, C, N) must have one C and one dtype, got ", shape_string(embed),
                  " and ", shape_string(features));
}

}  // namespace maskformer_ext
