// What the CPU and the CUDA binding of semantic inference share.
#pragma once

#include "common/mask_source.h"

namespace maskformer_ext {

inline constexpr const char* semantic_op = "semantic_inference";

inline void check_scores(const Tensor& out, const Tensor& probability, const Size& size) {
  check_dim(out, 3, "semantic_scores", "out");
  check_dtype(out, ScalarType::Float, "semantic_scores", "out");
  STD_TORCH_CHECK(size.size() == 2 && out.is_contiguous() && out.size(0) == probability.size(1) &&
                      out.size(1) == size[0] && out.size(2) == size[1],
                  "semantic_scores: out must be contiguous (K, H, W), got shape ", shape_string(out));
}

}  // namespace maskformer_ext
