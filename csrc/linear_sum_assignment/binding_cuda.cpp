// CUDA kernel of torch.ops.maskformer_ext.linear_sum_assignment: guard, allocation, launch.
#include "linear_sum_assignment/call.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "linear_sum_assignment";

Tensor linear_sum_assignment_on_gpu(const Tensor& cost_in, const Tensor& num_targets_in) {
  const CudaScope cuda(cost_in);
  const AssignmentCall call(op, cost_in, num_targets_in);
  const int64_t problems = call.problems(), queries = call.params.num_queries, targets = call.params.max_targets;
  STD_TORCH_CHECK(queries * targets < INT32_MAX, op, ": a problem must have fewer than 2^31 pairs, got ",
                  shape_string(call.cost));
  Tensor workspace = torch::stable::new_empty(call.cost, {problems * linear_sum_assignment_workspace(queries, targets)},
                                              ScalarType::Byte);
  linear_sum_assignment_cuda(call.params, problems, static_cast<char*>(workspace.mutable_data_ptr()), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.assignment;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("linear_sum_assignment", TORCH_BOX(&linear_sum_assignment_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
