// The checks of a call of semantic_scores, shared by its CPU and CUDA bindings.
#pragma once

#include "torch/mask_source.h"

namespace maskformer_ext {

// Checks the map of scores (K, H, W) that semantic_scores adds to.
inline void check_scores(const Tensor& out, const Tensor& probability, const Size& size) {
  check_dim(out, 3, "semantic_scores", "out");
  check_dtype(out, ScalarType::Float, "semantic_scores", "out");
  STD_TORCH_CHECK(size.size() == 2 && out.is_contiguous() && out.size(0) == probability.size(1) &&
                      out.size(1) == size[0] && out.size(2) == size[1],
                  "semantic_scores: out must be contiguous (K, H, W), got shape ", shape_string(out));
}

}  // namespace maskformer_ext
