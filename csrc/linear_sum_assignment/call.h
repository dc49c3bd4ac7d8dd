// A call of linear_sum_assignment, shared by its CPU and CUDA bindings: tensors, checked and kept alive, and
// parameters.
#pragma once

#include "linear_sum_assignment/linear_sum_assignment.h"
#include "torch/checks.h"

namespace maskformer_ext {

struct __attribute__((visibility("hidden"))) AssignmentCall {
  Tensor cost, num_targets, assignment;
  LinearSumAssignmentParams params;

  AssignmentCall(const char* op, const Tensor& cost_in, const Tensor& num_targets_in) {
    check_dim(cost_in, 3, op, "cost");
    check_dim(num_targets_in, 1, op, "num_targets");
    check_dtype(num_targets_in, ScalarType::Long, op, "num_targets");
    cost = torch::stable::contiguous(cost_in);
    num_targets = torch::stable::contiguous(num_targets_in);
    STD_TORCH_CHECK(num_targets.size(0) == problems(), op, ": num_targets must have one entry for each of the ",
                    problems(), " problems, got shape ", shape_string(num_targets));
    assignment = torch::stable::new_empty(cost, {problems(), cost.size(2)}, ScalarType::Long);
    params = {
        .cost = cost.const_data_ptr(),
        .cost_dtype = cost.scalar_type() == ScalarType::Double ? DType::float64 : floating_dtype(cost, op, "cost"),
        .num_targets = num_targets.const_data_ptr<int64_t>(),
        .num_queries = cost.size(1),
        .max_targets = cost.size(2),
        .query_of_target = assignment.mutable_data_ptr<int64_t>(),
    };
  }
  int64_t problems() const { return cost.size(0); }
};

}  // namespace maskformer_ext
