// What the bindings of mask_loss and its backward share on every device.
#pragma once

#include <optional>
#include <tuple>

#include "common/checks.h"
#include "mask_loss/mask_loss.h"

namespace maskformer_ext {

using MaskLossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // focal, dice, maps, coefficients

// A call of the backward: its tensors, checked and contiguous, its result, and the parameters made of them.
struct __attribute__((visibility("hidden"))) MaskLossGradCall {
  Tensor maps, coefficients, grad_logits;
  std::optional<Tensor> grad_focal, grad_dice;
  MaskLossGradParams params;
  int64_t masks;

  MaskLossGradCall(const char* op, const Tensor& maps_in, const Tensor& coefficients_in,
                   const std::optional<Tensor>& grad_focal_in, const std::optional<Tensor>& grad_dice_in,
                   ScalarType dtype) {
    check_dim(maps_in, 4, op, "maps");
    check_dtype(maps_in, ScalarType::Float, op, "maps");
    masks = maps_in.size(0);
    const int64_t height = maps_in.size(2), width = maps_in.size(3);
    const auto of_masks = [&](const Tensor& tensor, const char* name) {
      check_dtype(tensor, ScalarType::Float, op, name);
      STD_TORCH_CHECK(tensor.dim() > 0 && tensor.size(0) == masks, op, ": ", name, " must have N = ", masks,
                      " rows, got shape ", shape_string(tensor));
      return torch::stable::contiguous(tensor);
    };
    maps = torch::stable::contiguous(maps_in);
    coefficients = of_masks(coefficients_in, "coefficients");
    if (grad_focal_in) grad_focal = of_masks(*grad_focal_in, "grad_focal");
    if (grad_dice_in) grad_dice = of_masks(*grad_dice_in, "grad_dice");
    grad_logits = torch::stable::new_empty(maps, {masks, height, width}, dtype);
    params = {
        .maps = maps.const_data_ptr<float>(),
        .coefficients = coefficients.const_data_ptr<float>(),
        .grad_focal = grad_focal ? grad_focal->const_data_ptr<float>() : nullptr,
        .grad_dice = grad_dice ? grad_dice->const_data_ptr<float>() : nullptr,
        .pixels = height * width,
        .dtype = floating_dtype(grad_logits, op, "mask_logits"),
        .grad_logits = grad_logits.mutable_data_ptr(),
    };
  }
};

}  // namespace maskformer_ext
