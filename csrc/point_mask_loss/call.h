// A call of point_mask_loss and of its backward, shared by the CPU and CUDA bindings: tensors, checked and contiguous.
#pragma once

#include <optional>
#include <tuple>

#include "matched_mask_loss/call.h"
#include "point_mask_loss/point_mask_loss.h"

namespace maskformer_ext {

using PointMaskLossOutputs = std::tuple<Tensor, Tensor, Tensor>;  // cross-entropy, dice, coefficients

// The tensors that both the op and its backward take.
struct PointMaskLossInputs {
  const Tensor &mask_logits, &targets, &num_segments, &image_index, &segment_index, &points;
};

struct __attribute__((visibility("hidden"))) PointMaskLossCall {
  PointMaskLossCall(const char* op, const PointMaskLossInputs& inputs)
      : pairs(op,
              {inputs.mask_logits, inputs.targets, inputs.num_segments, std::nullopt, inputs.image_index,
               inputs.segment_index},
              /*ignore_void=*/false) {
    const Tensor &logits = pairs.logits, &targets = pairs.targets;
    const int64_t masks = pairs.masks(), height = logits.size(1), width = logits.size(2);
    const int64_t rows = pairs.target_height(), columns = pairs.target_width();
    STD_TORCH_CHECK(masks == 0 || (height > 0 && width > 0 && rows > 0 && columns > 0), op,
                    ": mask_logits and targets must have at least one pixel, got ", shape_string(logits), ", ",
                    shape_string(targets));
    constexpr int64_t most = INT32_MAX / 4;  // entries of a plane with its border count as pixels too
    STD_TORCH_CHECK(height < most && width < most && (height + 2) * (width + 2) < most, op,
                    ": mask_logits must have fewer than 2^29 pixels, got ", shape_string(logits));
    const int64_t row_stride = targets.stride(targets.dim() - 2);
    STD_TORCH_CHECK(rows < INT32_MAX && columns < INT32_MAX && rows * row_stride < INT32_MAX - columns, op,
                    ": a target must span fewer than 2^31 elements, got ", shape_string(targets), " with rows ",
                    row_stride, " apart");
    check_dim(inputs.points, 3, op, "points");
    check_dtype(inputs.points, ScalarType::Float, op, "points");
    STD_TORCH_CHECK(inputs.points.size(0) == masks && inputs.points.size(2) == 2, op,
                    ": points must be (N, P, 2) with N = ", masks, ", got ", shape_string(inputs.points));
    STD_TORCH_CHECK(inputs.points.size(1) < INT32_MAX, op, ": there must be fewer than 2^31 points, got ",
                    inputs.points.size(1));
    points = torch::stable::contiguous(inputs.points);
  }

  // Whether every loss and gradient is 0.
  bool is_empty() const { return pairs.masks() == 0 || points.size(1) == 0 || pairs.images() == 0; }
  DType target_dtype(const char* op) const { return kernel_dtype(pairs.targets, op, "targets.masks"); }

  // What the op returns: zeros where it is empty, else for the kernels to fill in.
  PointMaskLossOutputs outputs() const {
    const auto of_masks = [&](std::initializer_list<int64_t> sizes) {
      return is_empty() ? torch::stable::new_zeros(pairs.logits, sizes, ScalarType::Float)
                        : torch::stable::new_empty(pairs.logits, sizes, ScalarType::Float);
    };
    const int64_t masks = pairs.masks();
    return {of_masks({masks}), of_masks({masks}), of_masks({masks, 3})};
  }

  // What the backward returns, likewise.
  Tensor grad_logits() const {
    const int64_t masks = pairs.masks(), height = pairs.logits.size(1), width = pairs.logits.size(2);
    return is_empty() ? torch::stable::new_zeros(pairs.logits, {masks, height, width})
                      : torch::stable::new_empty(pairs.logits, {masks, height, width});
  }

  MatchedMaskLossCall pairs;
  Tensor points;  // (N, P, 2) float32, contiguous
};

// What the backward takes beside the tensors of the op.
struct __attribute__((visibility("hidden"))) PointMaskLossGrads {
  PointMaskLossGrads(const char* op, int64_t masks, const Tensor& coefficients_in,
                     const std::optional<Tensor>& cross_entropy_in, const std::optional<Tensor>& dice_in) {
    coefficients = contiguous_floats(coefficients_in, {masks, 3}, op, "coefficients");
    if (cross_entropy_in) cross_entropy = contiguous_floats(*cross_entropy_in, {masks}, op, "grad_cross_entropy");
    if (dice_in) dice = contiguous_floats(*dice_in, {masks}, op, "grad_dice");
  }

  const float* of_cross_entropy() const { return cross_entropy ? cross_entropy->const_data_ptr<float>() : nullptr; }
  const float* of_dice() const { return dice ? dice->const_data_ptr<float>() : nullptr; }

  Tensor coefficients;
  std::optional<Tensor> cross_entropy, dice;
};

}  // namespace maskformer_ext
