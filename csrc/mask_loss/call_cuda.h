// A call of mask_loss on a GPU: parameters from tensors, workspace, and the launch. matched_mask_loss shares it.
#pragma once

#include <cstdint>

#include "mask_loss/call.h"
#include "mask_loss/mask_loss_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {

// Fills in what comes from logits (N, h, w), from the targets' last two dimensions, and from weights.
inline MaskLossCudaParams mask_loss_cuda_params(const char* op, const Tensor& logits, const Tensor& targets,
                                                double alpha, double gamma) {
  const int64_t last = targets.dim() - 1;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t from = logits.size(1 + axis), to = targets.size(last - 1 + axis);
    STD_TORCH_CHECK(from < INT32_MAX && to < INT32_MAX && 2 * from * to < INT32_MAX, op,
                    ": 2 * size of mask_logits * size of targets must be below 2^31 along each axis, got ", from,
                    " and ", to);
  }
  STD_TORCH_CHECK(logits.size(0) < INT32_MAX, op, ": there must be fewer than 2^31 masks");
  STD_TORCH_CHECK(logits.size(0) == 0 || (logits.size(1) > 0 && logits.size(2) > 0 && targets.size(last - 1) > 0 &&
                                          targets.size(last) > 0),
                  op, ": mask_logits and targets must have at least one pixel");
  MaskLossCudaParams params = {};
  params.logits = logits.const_data_ptr();
  params.logits_dtype = floating_dtype(logits, op, "mask_logits");
  params.logits_mask_stride = logits.stride(0);
  params.logits_row_stride = logits.stride(1);
  params.masks = static_cast<int>(logits.size(0));
  params.height = static_cast<int>(logits.size(1));
  params.width = static_cast<int>(logits.size(2));
  params.targets = targets.const_data_ptr();
  params.target_row_stride = targets.stride(last - 1);
  params.target_height = static_cast<int>(targets.size(last - 1));
  params.target_width = static_cast<int>(targets.size(last));
  params.row_unit = 1.0f / (2.0f * static_cast<float>(params.target_height));
  params.column_unit = 1.0f / (2.0f * static_cast<float>(params.target_width));
  params.alpha_inside = alpha < 0 ? 1.0f : static_cast<float>(alpha);
  params.alpha_outside = alpha < 0 ? 1.0f : static_cast<float>(1.0 - alpha);
  params.gamma = static_cast<float>(gamma);
  return params;
}

// Whether a group is always whole and begins at a multiple of its size, so that one load takes it.
inline bool groups_are_aligned(const MaskLossCudaParams& params) {
  const bool bytes = !params.is_map && params.target_dtype == DType::uint8;
  const bool words = params.is_map ? params.wide : params.target_dtype == DType::float32;
  const auto aligned = [](const void* pointer, uintptr_t size) {
    return reinterpret_cast<uintptr_t>(pointer) % (kMaskLossGroup * size) == 0;
  };
  const auto whole = [](int64_t pixels) { return pixels % kMaskLossGroup == 0; };
  return params.target_width % (int64_t{kMaskLossGroup} * params.width) == 0 &&
         aligned(params.targets, bytes   ? 1
                                 : words ? 4
                                         : 2) &&
         aligned(params.void_pixels, 1) && whole(params.target_row_stride) && whole(params.target_plane_stride) &&
         whole(params.target_image_stride);
}

// Splits the masks into blocks: strips of many rows, where there are blocks enough for every processor of a GPU.
inline void split_masks(MaskLossCudaParams& params) {
  constexpr int64_t kEnoughBlocks = 1024, kLeastRows = 4;
  params.chunks = mask_loss_chunks(params.width, params.target_width);
  params.strip_rows = MaskLossCudaParams::kMostStripRows;
  while (params.strip_rows > kLeastRows &&
         int64_t{params.masks} * params.chunks.count * params.strips() < kEnoughBlocks) {
    params.strip_rows /= 2;
  }
}

inline MaskLossOutputs run_mask_loss_cuda(MaskLossCudaParams params, const Tensor& logits, bool with_grad,
                                          const CudaScope& cuda) {
  const int64_t masks = params.masks, height = params.height, width = params.width;
  Tensor focal = torch::stable::new_empty(logits, {masks}, ScalarType::Float);
  Tensor dice = torch::stable::new_empty(logits, {masks}, ScalarType::Float);
  Tensor maps = torch::stable::new_empty(logits, {with_grad ? masks : 0, 3, height, width}, ScalarType::Float);
  Tensor coefficients = torch::stable::new_empty(logits, {masks, 3}, ScalarType::Float);
  if (masks == 0) return {focal, dice, maps, coefficients};
  split_masks(params);
  params.aligned = groups_are_aligned(params);
  const int64_t strips = params.strips();
  Tensor sums =
      torch::stable::new_empty(logits, {masks * strips * params.chunks.count * kMaskLossSums}, ScalarType::Double);
  Tensor edges = torch::stable::new_empty(logits, {with_grad ? masks * strips * 3 * width : 0}, ScalarType::Float);
  params.sums = sums.mutable_data_ptr<double>();
  params.edges = with_grad ? edges.mutable_data_ptr<float>() : nullptr;
  params.maps = with_grad ? maps.mutable_data_ptr<float>() : nullptr;
  params.focal = focal.mutable_data_ptr<float>();
  params.dice = dice.mutable_data_ptr<float>();
  params.coefficients = coefficients.mutable_data_ptr<float>();
  mask_loss_fwd_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {focal, dice, maps, coefficients};
}

}  // namespace maskformer_ext
