// A call of the matching costs on a GPU: checked targets, the cost, workspace, and all parameters but the mask logits.
// matching_cost_from_embeddings shares it.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "matching_cost/check_targets.h"
#include "matching_cost/matching_cost_cuda.h"

namespace maskformer_ext {

struct MatchingTargets {
  const Tensor &pixels, &labels, &num_segments;
  const std::optional<Tensor>& void_pixels;
  bool ignore_void;
};

// The tensors that the parameters point into, kept alive beside them.
class MatchingCostCall {
 public:
  // For class logits (..., B, Q, K + 1) and masks of (height, width).
  MatchingCostCall(const char* op, const Tensor& class_logits, const MatchingTargets& targets,
                   const MatchingCostWeights& weights, int64_t height, int64_t width)
      : class_logits_(torch::stable::contiguous(class_logits)),
        pixels_(torch::stable::contiguous(targets.pixels)),
        labels_(torch::stable::contiguous(targets.labels)),
        num_segments_(torch::stable::contiguous(targets.num_segments)) {
    if (targets.void_pixels.has_value()) void_ = torch::stable::contiguous(*targets.void_pixels);
    const int64_t dim = class_logits_.dim();
    STD_TORCH_CHECK(dim >= 3, op, ": class_logits must be (..., B, Q, K + 1), got ", shape_string(class_logits_));
    params.images = class_logits_.size(dim - 3);
    params.queries = class_logits_.size(dim - 2);
    params.classes = class_logits_.size(dim - 1) - 1;
    check_matching_targets(op, pixels_, labels_, num_segments_, void_, {params.images, height * width, params.classes});
    params.class_logits = class_logits_.const_data_ptr();
    params.class_dtype = floating_dtype(class_logits_, op, "class_logits");
    params.labels = labels_.const_data_ptr<int64_t>();
    params.num_segments = num_segments_.const_data_ptr<int64_t>();
    params.segments = labels_.size(1);
    params.rows = class_logits_.numel() / (params.classes + 1);
    STD_TORCH_CHECK(params.rows < INT32_MAX, op, ": class_logits must have fewer than 2^31 rows, got ",
                    shape_string(class_logits_));
    params.chunk_images = params.images;
    params.height = static_cast<int>(height);
    params.width = static_cast<int>(width);
    params.target_height = static_cast<int>(pixels_.size(pixels_.dim() - 2));
    params.target_width = static_cast<int>(pixels_.size(pixels_.dim() - 1));
    params.ignore_void = targets.ignore_void;
    params.class_weight = static_cast<float>(weights.class_weight);
    params.focal_weight = static_cast<float>(weights.focal_weight);
    params.dice_weight = static_cast<float>(weights.dice_weight);
    params.alpha = static_cast<float>(weights.alpha);
    params.gamma = static_cast<float>(weights.gamma);
    std::vector<int64_t> shape(class_logits_.sizes().begin(), class_logits_.sizes().end());
    shape.back() = params.segments;
    cost = torch::stable::new_empty(class_logits_, shape, ScalarType::Float);
    params.cost = cost.mutable_data_ptr<float>();
    if (cost.numel() > 0) allocate();
  }
  MatchingCostCall(const MatchingCostCall&) = delete;
  MatchingCostCall& operator=(const MatchingCostCall&) = delete;

  MatchingCostCudaParams params = {};
  Tensor cost;  // (..., B, Q, T)

 private:
  // Blocks take queries once, as long as their sums need little memory: a GPU then gives the next ones to whichever
  // processor is free. Beyond that, blocks loop. kFewBlocks are more than any GPU runs at once.
  static constexpr int64_t kFewBlocks = 2048, kMostSums = int64_t{2} << 20, kMostBlocks = int64_t{1} << 20;

  Tensor class_logits_, pixels_, labels_, num_segments_, sums_, workspace_;
  std::optional<Tensor> void_;

  void allocate() {
    const bool from_masks = pixels_.dim() == 4;
    const int64_t images = params.images, groups = params.segments + 1, num_pixels = params.pixels();
    params.max_items = static_cast<int>(groups + num_pixels / MatchingCostCudaParams::kItemPixels);
    params.words = static_cast<int>((params.segments + MatchingCostCudaParams::kMasksOfWord - 1) /
                                    MatchingCostCudaParams::kMasksOfWord);
    params.sums_stride =
        MatchingCostCudaParams::kMostQueries * MatchingCostCudaParams::kSums * (params.max_items + groups);
    const int64_t most_blocks = from_masks ? kMostBlocks : std::max(kFewBlocks, kMostSums / params.sums_stride);
    params.blocks = static_cast<int>(std::min(params.rows, most_blocks));
    if (!from_masks) {
      sums_ = torch::stable::new_empty(class_logits_, {params.blocks * params.sums_stride}, ScalarType::Double);
      params.sums = sums_.mutable_data_ptr<double>();
    }
    const int64_t map_words = from_masks ? 0 : images * (2 * num_pixels + 2 * params.max_items + groups + 1);
    const int64_t mask_words = from_masks ? images * params.words * num_pixels : 0;
    workspace_ =
        torch::stable::new_empty(class_logits_, {images * (groups + 1) + map_words + mask_words}, ScalarType::Int);
    int* words = workspace_.mutable_data_ptr<int32_t>();
    params.group_area = words;
    params.counted = words + images * groups;
    words = params.counted + images;
    if (from_masks) {
      params.masks = static_cast<const uint8_t*>(pixels_.const_data_ptr());
      if (params.ignore_void && void_.has_value()) {
        params.void_map = static_cast<const uint8_t*>(void_->const_data_ptr());
      }
      params.bits = reinterpret_cast<uint32_t*>(words);
    } else {
      params.segment_map = pixels_.const_data_ptr();
      params.wide = pixels_.scalar_type() == ScalarType::Int;
      params.owner = words;
      params.order = params.owner + images * num_pixels;
      params.item = params.order + images * num_pixels;
      params.first_item = params.item + images * 2 * params.max_items;
    }
  }
};

}  // namespace maskformer_ext
