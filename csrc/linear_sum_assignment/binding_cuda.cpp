// CUDA kernel of torch.ops.maskformer_ext.linear_sum_assignment: guard, allocation, launch.
#include "common/checks.h"
#include "common/cuda_stream.h"
#include "linear_sum_assignment/linear_sum_assignment.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "linear_sum_assignment";

Tensor linear_sum_assignment_on_gpu(const Tensor& cost_in, const Tensor& num_targets_in) {
  const CudaScope cuda(cost_in);
  check_dim(cost_in, 3, op, "cost");
  check_dim(num_targets_in, 1, op, "num_targets");
  check_dtype(num_targets_in, ScalarType::Long, op, "num_targets");
  const Tensor cost = torch::stable::contiguous(cost_in);
  const Tensor num_targets = torch::stable::contiguous(num_targets_in);
  const int64_t problems = cost.size(0), queries = cost.size(1), targets = cost.size(2);
  STD_TORCH_CHECK(num_targets.size(0) == problems, op, ": num_targets must have one entry for each of the ", problems,
                  " problems, got shape ", shape_string(num_targets));
  STD_TORCH_CHECK(queries * targets < INT32_MAX, op, ": a problem must have fewer than 2^31 pairs, got ",
                  shape_string(cost));
  Tensor assignment = torch::stable::new_empty(cost, {problems, targets}, ScalarType::Long);
  Tensor workspace =
      torch::stable::new_empty(cost, {problems * linear_sum_assignment_workspace(queries, targets)}, ScalarType::Byte);
  const LinearSumAssignmentParams params = {
      .cost = cost.const_data_ptr(),
      .cost_dtype = cost.scalar_type() == ScalarType::Double ? DType::float64 : floating_dtype(cost, op, "cost"),
      .num_targets = num_targets.const_data_ptr<int64_t>(),
      .num_queries = queries,
      .max_targets = targets,
      .query_of_target = assignment.mutable_data_ptr<int64_t>(),
      .forced = nullptr,
  };
  linear_sum_assignment_cuda(params, problems, static_cast<char*>(workspace.mutable_data_ptr()), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return assignment;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("linear_sum_assignment", TORCH_BOX(&linear_sum_assignment_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
