// A call of the point matching costs on a GPU: checked targets and points, the cost, and workspace. Its parameters lack
// the logits only. point_matching_cost_from_embeddings shares it.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "common/cuda_cache.h"
#include "matching_cost/check_targets.h"
#include "point_matching_cost/point_matching_cost_cuda.h"

namespace maskformer_ext {

struct PointTensors {
  const Tensor &pixels, &labels, &num_segments, &points;
  int64_t sampling;
};

// The tensors that the parameters point into, kept alive beside them.
class PointMatchingCostCall {
 public:
  // For class logits (..., B, Q, K + 1) and masks of (height, width). `floats` is what a point of a problem needs
  // beside its shares.
  PointMatchingCostCall(const char* op, const Tensor& class_logits, const PointTensors& targets, double class_weight,
                        double mask_weight, double dice_weight, int64_t height, int64_t width, int64_t floats)
      : class_logits_(torch::stable::contiguous(class_logits)),
        pixels_(torch::stable::contiguous(targets.pixels)),
        labels_(torch::stable::contiguous(targets.labels)),
        num_segments_(torch::stable::contiguous(targets.num_segments)),
        points_(torch::stable::contiguous(targets.points)) {
    const int64_t dim = class_logits_.dim();
    STD_TORCH_CHECK(dim >= 3, op, ": class_logits must be (..., B, Q, K + 1), got ", shape_string(class_logits_));
    params.images = class_logits_.size(dim - 3);
    params.queries = class_logits_.size(dim - 2);
    params.classes = class_logits_.size(dim - 1) - 1;
    check_matching_targets(op, pixels_, labels_, num_segments_, std::nullopt,
                           {params.images, height * width, params.classes});
    problems = 1;
    for (int64_t i = 0; i < dim - 2; ++i) problems *= class_logits_.size(i);
    check_dtype(points_, ScalarType::Float, op, "points");
    const int64_t count = points_.dim() == dim ? points_.size(dim - 2) : -1;
    STD_TORCH_CHECK(
        count >= 0 && points_.size(dim - 1) == 2 && points_.numel() == problems * count * 2 && count < INT32_MAX / 8,
        op, ": points must be (..., B, P, 2) as class_logits, got ", shape_string(points_));
    STD_TORCH_CHECK(count == 0 || height * width > 0, op, ": mask predictions must have a pixel");
    params.class_logits = class_logits_.const_data_ptr();
    params.class_dtype = floating_dtype(class_logits_, op, "class_logits");
    params.labels = labels_.const_data_ptr<int64_t>();
    params.num_segments = num_segments_.const_data_ptr<int64_t>();
    params.segments = labels_.size(1);
    params.class_weight = static_cast<float>(class_weight);
    params.mask_weight = static_cast<float>(mask_weight);
    params.dice_weight = static_cast<float>(dice_weight);
    params.points = points_.const_data_ptr<float>();
    params.count = static_cast<int>(count);
    params.pixels = pixels_.const_data_ptr();
    params.wide = pixels_.scalar_type() == ScalarType::Int;
    params.from_masks = pixels_.dim() == 4;
    params.nearest = targets.sampling == 1;
    params.target_height = pixels_.size(pixels_.dim() - 2);
    params.target_width = pixels_.size(pixels_.dim() - 1);
    params.height = height;
    params.width = width;
    std::vector<int64_t> shape(class_logits_.sizes().begin(), class_logits_.sizes().end());
    shape.back() = params.segments;
    cost = torch::stable::new_empty(class_logits_, shape, ScalarType::Float);
    params.cost = cost.mutable_data_ptr<float>();
    if (cost.numel() == 0) return;
    at_once =
        std::clamp<int64_t>(kCachedFloats / std::max<int64_t>(1, count * (params.segments + floats)), 1, problems);
    inside_ = torch::stable::new_empty(class_logits_, {at_once * params.segments * count}, ScalarType::Float);
    area_ = torch::stable::new_empty(class_logits_, {at_once * params.segments}, ScalarType::Double);
    params.inside = inside_.mutable_data_ptr<float>();
    params.area = area_.mutable_data_ptr<double>();
  }
  PointMatchingCostCall(const PointMatchingCostCall&) = delete;
  PointMatchingCostCall& operator=(const PointMatchingCostCall&) = delete;

  PointMatchingCostCudaParams params = {};
  Tensor cost;           // (..., B, Q, T)
  int64_t problems = 1;  // images in layers
  int64_t at_once = 1;   // problems whose workspace is there at once

 private:
  Tensor class_logits_, pixels_, labels_, num_segments_, points_, inside_, area_;
};

}  // namespace maskformer_ext
