// Checks shapes and dtypes of a batch's targets, but no values: what all bindings of the matching costs share.
#pragma once

#include <optional>

#include "torch/checks.h"

namespace maskformer_ext {

// The predictions that targets must fit: `images` images of `num_pixels` = h * w pixels and `classes` classes.
struct TargetsFit {
  int64_t images, num_pixels, classes;
};

inline void check_matching_targets(const char* op, const Tensor& pixels, const Tensor& labels,
                                   const Tensor& num_segments, const std::optional<Tensor>& void_pixels,
                                   const TargetsFit& fit) {
  check_dim(labels, 2, op, "labels");
  check_dtype(labels, ScalarType::Long, op, "labels");
  check_dim(num_segments, 1, op, "num_segments");
  check_dtype(num_segments, ScalarType::Long, op, "num_segments");
  const bool from_masks = pixels.dim() == 4;
  STD_TORCH_CHECK((from_masks ? pixels.size(1) == labels.size(1) : pixels.dim() == 3) && pixels.size(0) == fit.images &&
                      labels.size(0) == fit.images && num_segments.size(0) == fit.images,
                  op, ": targets must be of B = ", fit.images, " images and T = ", labels.size(1),
                  " segments, got pixels ", shape_string(pixels), ", labels ", shape_string(labels), ", num_segments ",
                  shape_string(num_segments));
  const ScalarType dtype = pixels.scalar_type();
  STD_TORCH_CHECK(from_masks ? dtype == ScalarType::Bool || dtype == ScalarType::Byte
                             : dtype == ScalarType::Int || dtype == ScalarType::Short,
                  op, ": a segment_map must be int16 or int32, masks bool or uint8, got ",
                  torch::headeronly::toString(dtype));
  const int64_t height = pixels.size(pixels.dim() - 2), width = pixels.size(pixels.dim() - 1);
  STD_TORCH_CHECK(height * width > 0 || fit.num_pixels == 0, op, ": targets must have a pixel, got ",
                  shape_string(pixels));
  STD_TORCH_CHECK(fit.num_pixels < INT32_MAX / 2 && height < INT32_MAX && width < INT32_MAX, op,
                  ": mask logits must have fewer than 2^30 pixels, got ", fit.num_pixels);
  STD_TORCH_CHECK(fit.classes >= 1, op, ": class_logits must have at least 2 columns, got ", fit.classes + 1);
  if (void_pixels.has_value()) check_void_pixels(*void_pixels, pixels, op, "void");
}

struct MatchingCostWeights {
  double class_weight, focal_weight, dice_weight, alpha, gamma;
};

}  // namespace maskformer_ext
