// A call of mask_loss: its results, its backward's tensors kept alive beside the parameters, and the run on the CPU.
// matched_mask_loss shares it.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "mask_loss/mask_loss.h"
#include "torch/checks.h"

namespace maskformer_ext {

using MaskLossOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // focal, dice, maps, coefficients

// A call of the backward: its tensors, checked and contiguous, its result, and the parameters that point into them.
struct __attribute__((visibility("hidden"))) MaskLossGradCall {
  Tensor maps, coefficients, grad_logits;
  std::optional<Tensor> grad_focal, grad_dice;
  MaskLossGradParams params;
  int64_t masks;

  MaskLossGradCall(const char* op, const Tensor& maps_in, const Tensor& coefficients_in,
                   const std::optional<Tensor>& grad_focal_in, const std::optional<Tensor>& grad_dice_in,
                   ScalarType dtype) {
    check_dim(maps_in, 4, op, "maps");
    masks = maps_in.size(0);
    const int64_t height = maps_in.size(2), width = maps_in.size(3);
    maps = contiguous_floats(maps_in, {masks, 3, height, width}, op, "maps");
    coefficients = contiguous_floats(coefficients_in, {masks, 3}, op, "coefficients");
    if (grad_focal_in) grad_focal = contiguous_floats(*grad_focal_in, {masks}, op, "grad_focal");
    if (grad_dice_in) grad_dice = contiguous_floats(*grad_dice_in, {masks}, op, "grad_dice");
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

// Fills in what comes from logits and weights, and checks sizes for the last time.
inline MaskLossParams mask_loss_params(const char* op, const Tensor& logits, int64_t target_height,
                                       int64_t target_width, double alpha, double gamma) {
  MaskLossParams params = {};
  params.logits = logits.const_data_ptr();
  params.logits_dtype = floating_dtype(logits, op, "mask_logits");
  params.logits_mask_stride = logits.stride(0);
  params.logits_row_stride = logits.stride(1);
  params.masks = logits.size(0);
  params.height = logits.size(1);
  params.width = logits.size(2);
  params.target_height = target_height;
  params.target_width = target_width;
  constexpr int64_t largest = std::numeric_limits<int32_t>::max();
  STD_TORCH_CHECK(params.masks == 0 || (params.height > 0 && params.width > 0 && target_height > 0 && target_width > 0),
                  op, ": mask_logits and targets must have at least one pixel");
  STD_TORCH_CHECK(
      params.height < largest && params.width < largest && target_height < largest && target_width < largest, op,
      ": sizes must be below 2^31");
  params.alpha_inside = alpha < 0 ? 1.0f : static_cast<float>(alpha);
  params.alpha_outside = alpha < 0 ? 1.0f : static_cast<float>(1.0 - alpha);
  params.gamma = static_cast<float>(gamma);
  return params;
}

inline MaskLossOutputs run_mask_loss(MaskLossParams params, const Tensor& logits, bool with_grad) {
  const int64_t masks = params.masks, height = params.height, width = params.width;
  Tensor focal = torch::stable::new_empty(logits, {masks}, ScalarType::Float);
  Tensor dice = torch::stable::new_empty(logits, {masks}, ScalarType::Float);
  Tensor maps = torch::stable::new_empty(logits, {with_grad ? masks : 0, 3, height, width}, ScalarType::Float);
  Tensor coefficients = torch::stable::new_empty(logits, {masks, 3}, ScalarType::Float);
  MaskLossOutputs outputs = {focal, dice, maps, coefficients};
  if (masks == 0) return outputs;

  // Few masks are split into blocks of rows, so that every thread has work. The number of blocks depends on the sizes
  // alone, never on the threads. The sums are therefore the same for any number of threads.
  constexpr int64_t wanted_items = 64, least_pixels = 16384;
  const int64_t most_blocks = std::max<int64_t>(1, params.target_height * params.target_width / least_pixels);
  // For the sake of rounding, a block adds up no more than a few dozen target rows per row of logits.
  const int64_t least_blocks = params.target_height / (64 * height) + 1;
  params.blocks = std::min({(wanted_items + masks - 1) / masks, most_blocks, params.target_height});
  params.blocks = std::max(params.blocks, least_blocks);

  const ResizeCells columns = MASKFORMER_EXT_VARIANT::resize_cells(width, params.target_width);
  std::vector<MaskLossSums> sums(masks * params.blocks);
  std::vector<float> edges(with_grad ? masks * params.blocks * 3 * 2 * width : 0);
  params.columns = &columns;
  params.sums = sums.data();
  params.edges = with_grad ? edges.data() : nullptr;
  params.maps = with_grad ? maps.mutable_data_ptr<float>() : nullptr;
  params.focal = focal.mutable_data_ptr<float>();
  params.dice = dice.mutable_data_ptr<float>();
  params.coefficients = coefficients.mutable_data_ptr<float>();
  const int64_t pixels_per_item = params.target_height * params.target_width / params.blocks;
  torch::stable::parallel_for(0, masks * params.blocks, 1 + least_pixels / (1 + pixels_per_item),
                              [&](int64_t begin, int64_t end) { mask_loss_fwd(params, begin, end); });
  mask_loss_finish(params, 0, masks);
  return outputs;
}

}  // namespace maskformer_ext
