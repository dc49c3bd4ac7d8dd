// A call of uncertain_points, shared by its CPU and CUDA bindings: its tensors, checked, and the kernels' parameters.
#pragma once

#include "torch/checks.h"
#include "uncertain_points/uncertain_points.h"

namespace maskformer_ext {

struct __attribute__((visibility("hidden"))) UncertainPointsCall {
  UncertainPointsCall(const char* op, const Tensor& mask_logits, const Tensor& candidates_in, int64_t count) {
    check_dim(mask_logits, 3, op, "mask_logits");
    check_dim(candidates_in, 3, op, "candidates");
    check_dtype(candidates_in, ScalarType::Float, op, "candidates");
    logits = with_contiguous_rows(mask_logits);
    const int64_t masks = logits.size(0), height = logits.size(1), width = logits.size(2);
    STD_TORCH_CHECK(candidates_in.size(0) == masks && candidates_in.size(2) == 2, op,
                    ": candidates must be (N, M, 2) with N = ", masks, ", got ", shape_string(candidates_in));
    STD_TORCH_CHECK(masks == 0 || (height > 0 && width > 0), op, ": mask_logits must have at least one pixel, got ",
                    shape_string(logits));
    constexpr int64_t most = INT32_MAX / 4;  // entries of a plane with its border count as pixels too
    STD_TORCH_CHECK(height < most && width < most && (height + 2) * (width + 2) < most, op,
                    ": mask_logits must have fewer than 2^29 pixels, got ", shape_string(logits));
    STD_TORCH_CHECK(candidates_in.size(1) < INT32_MAX / 2, op, ": there must be fewer than 2^30 candidates, got ",
                    candidates_in.size(1));
    STD_TORCH_CHECK(count >= 0 && count <= candidates_in.size(1), op,
                    ": count must lie in [0, M] with M = ", candidates_in.size(1), ", got ", count);
    candidates = torch::stable::contiguous(candidates_in);
    chosen = torch::stable::new_empty(candidates, {masks, count, 2});
    params = {
        .logits = logits.const_data_ptr(),
        .dtype = floating_dtype(logits, op, "mask_logits"),
        .mask_stride = logits.stride(0),
        .row_stride = logits.stride(1),
        .masks = masks,
        .height = height,
        .width = width,
        .candidates = candidates.const_data_ptr<float>(),
        .num_candidates = candidates.size(1),
        .count = count,
        .chosen = chosen.mutable_data_ptr<float>(),
    };
  }

  bool is_empty() const { return params.masks == 0 || params.count == 0; }

  Tensor logits, candidates, chosen;
  UncertainPointsParams params;
};

}  // namespace maskformer_ext
