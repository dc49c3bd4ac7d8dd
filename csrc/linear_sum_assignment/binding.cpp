// torch.ops.maskformer_ext.linear_sum_assignment: schema, checks, allocation, CPU.
#include "common/checks.h"
#include "linear_sum_assignment/linear_sum_assignment.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "linear_sum_assignment";

Tensor linear_sum_assignment_cpu(const Tensor& cost_in, const Tensor& num_targets_in) {
  check_dim(cost_in, 3, op, "cost");
  check_dim(num_targets_in, 1, op, "num_targets");
  check_dtype(num_targets_in, ScalarType::Long, op, "num_targets");
  const Tensor cost = torch::stable::contiguous(cost_in);
  const Tensor num_targets = torch::stable::contiguous(num_targets_in);
  const int64_t problems = cost.size(0), queries = cost.size(1), targets = cost.size(2);
  STD_TORCH_CHECK(num_targets.size(0) == problems, op, ": num_targets must have one entry for each of the ", problems,
                  " problems, got shape ", shape_string(num_targets));
  const int64_t* counts = num_targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < problems; ++i) {
    STD_TORCH_CHECK(counts[i] >= 0 && counts[i] <= targets, op, ": num_targets must lie in [0, T] with T = ", targets,
                    ", got ", counts[i], " for problem ", i);
  }
  Tensor assignment = torch::stable::new_empty(cost, {problems, targets}, ScalarType::Long);
  const LinearSumAssignmentParams params = {
      .cost = cost.const_data_ptr(),
      .cost_dtype = cost.scalar_type() == ScalarType::Double ? DType::float64 : floating_dtype(cost, op, "cost"),
      .num_targets = counts,
      .num_queries = queries,
      .max_targets = targets,
      .query_of_target = assignment.mutable_data_ptr<int64_t>(),
      .forced = nullptr,
  };
  // Below about 20 microseconds of work a second thread costs more than it saves.
  const int64_t grain = 1 + 10000 / (1 + queries * targets);
  torch::stable::parallel_for(0, problems, grain,
                              [&](int64_t begin, int64_t end) { linear_sum_assignment(params, begin, end); });
  return assignment;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("linear_sum_assignment(Tensor cost, Tensor num_targets) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("linear_sum_assignment", TORCH_BOX(&linear_sum_assignment_cpu));
}

}  // namespace
}  // namespace maskformer_ext
