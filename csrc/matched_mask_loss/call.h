// A call of matched_mask_loss, shared by its CPU and CUDA bindings: its tensors, checked and contiguous.
#pragma once

#include <optional>

#include "torch/checks.h"

namespace maskformer_ext {

// The tensors that a binding of the op takes.
struct MatchedMaskLossInputs {
  const Tensor &mask_logits, &targets, &num_segments;
  const std::optional<Tensor>& void_pixels;
  const Tensor &image_index, &segment_index;
};

// The tensors that the kernels' parameters point into, kept alive. Values are not checked: the host does not have a
// GPU's.
struct __attribute__((visibility("hidden"))) MatchedMaskLossCall {
  MatchedMaskLossCall(const char* op, const MatchedMaskLossInputs& inputs, bool ignore_void) {
    check_dim(inputs.mask_logits, 3, op, "mask_logits");
    is_map = inputs.targets.dim() == 3;
    if (!is_map) check_dim(inputs.targets, 4, op, "targets");
    logits = with_contiguous_rows(inputs.mask_logits);
    targets = with_contiguous_rows(inputs.targets);
    image_index = contiguous_indices(inputs.image_index, masks(), op, "image_index");
    segment_index = contiguous_indices(inputs.segment_index, masks(), op, "segment_index");
    num_segments = contiguous_indices(inputs.num_segments, images(), op, "targets.num_segments");
    if (is_map) {
      if (!is_int16()) check_dtype(targets, ScalarType::Int, op, "targets.segment_map");
      return;
    }
    if (!ignore_void) return;
    STD_TORCH_CHECK(inputs.void_pixels.has_value(), op, ": targets must have void pixels for ignore_void");
    check_void_pixels(*inputs.void_pixels, targets, op, "targets.void");
    void_pixels = torch::stable::contiguous(*inputs.void_pixels);
  }

  int64_t masks() const { return logits.size(0); }
  int64_t images() const { return targets.size(0); }
  int64_t target_height() const { return targets.size(targets.dim() - 2); }
  int64_t target_width() const { return targets.size(targets.dim() - 1); }
  bool is_int16() const { return targets.scalar_type() == ScalarType::Short; }
  // (images, target_height, target_width), or null where no pixel is left out by a map of its own.
  const uint8_t* void_data() const {
    return void_pixels ? static_cast<const uint8_t*>(void_pixels->const_data_ptr()) : nullptr;
  }

  bool is_map;  // a segment map (B, H, W), else masks (B, T, H, W)
  Tensor logits, targets, image_index, segment_index, num_segments;
  std::optional<Tensor> void_pixels;  // (B, H, W), where masks come with pixels that are left out
};

}  // namespace maskformer_ext
