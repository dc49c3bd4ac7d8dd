// A call of box_matching_cost, shared by its CPU and CUDA bindings: checks, tensors kept alive, and the kernels'
// parameters.
#pragma once

#include <vector>

#include "box_matching_cost/box_matching_cost.h"
#include "torch/checks.h"

namespace maskformer_ext {

struct BoxCostWeights {
  double class_weight, box_weight, giou_weight;
  bool softmax;
  double alpha, gamma;
};

// The tensors that the parameters point into, kept alive beside them.
struct __attribute__((visibility("hidden"))) BoxCostCall {
  static constexpr const char* op = "box_matching_cost";
  Tensor logits, boxes, target_boxes, labels, num_segments, cost;
  BoxMatchingCostParams params = {};

  BoxCostCall(const Tensor& logits_in, const Tensor& boxes_in, const Tensor& target_boxes_in, const Tensor& labels_in,
              const Tensor& num_segments_in, const BoxCostWeights& weights)
      : logits(torch::stable::contiguous(logits_in)),
        boxes(torch::stable::contiguous(boxes_in)),
        target_boxes(torch::stable::contiguous(target_boxes_in)),
        labels(torch::stable::contiguous(labels_in)) {
    check_predictions();
    const int64_t dim = logits.dim(), images = logits.size(dim - 3);
    check_targets(images);
    num_segments = contiguous_indices(num_segments_in, images, op, "num_segments");
    std::vector<int64_t> shape(logits.sizes().begin(), logits.sizes().end());
    shape.back() = labels.size(1);
    cost = torch::stable::new_empty(logits, shape, ScalarType::Float);
    int64_t rows = 1;
    for (int64_t i = 0; i < dim - 1; ++i) rows *= logits.size(i);
    params = {.logits = logits.const_data_ptr(),
              .logits_dtype = floating_dtype(logits, op, "logits"),
              .boxes = boxes.const_data_ptr(),
              .boxes_dtype = floating_dtype(boxes, op, "boxes"),
              .target_boxes = target_boxes.const_data_ptr<float>(),
              .labels = labels.const_data_ptr<int64_t>(),
              .num_segments = num_segments.const_data_ptr<int64_t>(),
              .rows = rows,
              .images = images,
              .queries = logits.size(dim - 2),
              .classes = logits.size(dim - 1),
              .targets = labels.size(1),
              .softmax = weights.softmax,
              .class_weight = static_cast<float>(weights.class_weight),
              .box_weight = static_cast<float>(weights.box_weight),
              .giou_weight = static_cast<float>(weights.giou_weight),
              .alpha_positive = static_cast<float>(weights.alpha < 0 ? 1.0 : weights.alpha),
              .alpha_negative = static_cast<float>(weights.alpha < 0 ? 1.0 : 1.0 - weights.alpha),
              .gamma = static_cast<float>(weights.gamma),
              .cost = cost.mutable_data_ptr<float>()};
  }

 private:
  void check_predictions() const {
    const int64_t dim = logits.dim();
    STD_TORCH_CHECK(dim >= 3 && logits.size(dim - 1) >= 1, op, ": logits must be (..., B, Q, C) with C >= 1, got ",
                    shape_string(logits));
    bool fit = boxes.dim() == dim && boxes.size(dim - 1) == 4;
    for (int64_t i = 0; fit && i < dim - 1; ++i) fit = boxes.size(i) == logits.size(i);
    STD_TORCH_CHECK(fit, op, ": boxes must be (..., B, Q, 4) as logits ", shape_string(logits), ", got ",
                    shape_string(boxes));
  }

  void check_targets(int64_t images) const {
    check_dtype(target_boxes, ScalarType::Float, op, "target_boxes");
    check_dtype(labels, ScalarType::Long, op, "labels");
    check_dim(labels, 2, op, "labels");
    check_dim(target_boxes, 3, op, "target_boxes");
    STD_TORCH_CHECK(labels.size(0) == images && target_boxes.size(0) == images &&
                        target_boxes.size(1) == labels.size(1) && target_boxes.size(2) == 4,
                    op, ": targets must be of B = ", images, " images, (B, T) and (B, T, 4), got ",
                    shape_string(labels), " and ", shape_string(target_boxes));
  }
};

}  // namespace maskformer_ext
