// Describes a prediction to the kernels of inference (common/mask_source.h), from tensors and sizes.
#pragma once

#include <optional>
#include <vector>

#include "common/mask_source.h"
#include "torch/checks.h"

namespace maskformer_ext {

using Size = std::vector<int64_t>;

// Describes mask logits (Q, h, w) with contiguous rows. The caller fills in the queries.
inline MaskSource mask_source(const char* op, const Tensor& logits, const Size& size,
                              const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip) {
  check_dim(logits, 3, op, "mask_logits");
  STD_TORCH_CHECK(size.size() == 2 && logits.size(1) > 0 && logits.size(2) > 0 && size[0] > 0 && size[1] > 0, op,
                  ": mask_logits and size must have at least one pixel");
  MaskSource source = {};
  source.logits = logits.const_data_ptr();
  source.dtype = floating_dtype(logits, op, "mask_logits");
  source.query_stride = logits.stride(0);
  source.row_stride = logits.stride(1);
  source.height = logits.size(1);
  source.width = logits.size(2);
  if (input_size) {
    source.input_height = input_size->at(0);
    source.input_width = input_size->at(1);
    source.crop_height = crop ? crop->at(0) : source.input_height;
    source.crop_width = crop ? crop->at(1) : source.input_width;
  }
  source.out_height = size[0];
  source.out_width = size[1];
  source.flip = flip;
  return source;
}

// Checks class probabilities (Q, columns) float32 of the same queries, and returns them contiguous.
inline Tensor query_probability(const char* op, const Tensor& probability, const Tensor& mask_logits) {
  check_dim(probability, 2, op, "probability");
  check_dtype(probability, ScalarType::Float, op, "probability");
  STD_TORCH_CHECK(probability.size(0) == mask_logits.size(0), op, ": probability must have Q = ", mask_logits.size(0),
                  " rows, got shape ", shape_string(probability));
  return torch::stable::contiguous(probability);
}

}  // namespace maskformer_ext
