// What both bindings of attention_mask check.
#pragma once

#include "torch/checks.h"

namespace maskformer_ext {

inline void check_attention_mask(const Tensor& mask_embed, const Tensor& mask_features,
                                 torch::headeronly::IntHeaderOnlyArrayRef size) {
  constexpr const char* op = "attention_mask";
  check_dim(mask_embed, 3, op, "mask_embed");
  check_dim(mask_features, 4, op, "mask_features");
  STD_TORCH_CHECK(size.size() == 2 && size[0] > 0 && size[1] > 0 && size[0] < INT32_MAX && size[1] < INT32_MAX, op,
                  ": size must be two positive numbers of 31 bits");
  STD_TORCH_CHECK(mask_features.size(2) > 0 && mask_features.size(3) > 0 && mask_features.size(3) < INT32_MAX, op,
                  ": mask_features must have a pixel, got ", shape_string(mask_features));
}

}  // namespace maskformer_ext
