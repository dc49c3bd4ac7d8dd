// torch.ops.maskformer_ext.linear_sum_assignment: schema and checks, on the CPU.
#include "linear_sum_assignment/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "linear_sum_assignment";

Tensor linear_sum_assignment_cpu(const Tensor& cost_in, const Tensor& num_targets_in) {
  const AssignmentCall call(op, cost_in, num_targets_in);
  const int64_t problems = call.problems(), targets = call.params.max_targets, *counts = call.params.num_targets;
  for (int64_t i = 0; i < problems; ++i) {
    STD_TORCH_CHECK(counts[i] >= 0 && counts[i] <= targets, op, ": num_targets must lie in [0, T] with T = ", targets,
                    ", got ", counts[i], " for problem ", i);
  }
  // Below about 20 microseconds of work a second thread costs more than it saves.
  const int64_t grain = 1 + 10000 / (1 + call.params.num_queries * targets);
  torch::stable::parallel_for(0, problems, grain,
                              [&](int64_t begin, int64_t end) { linear_sum_assignment(call.params, begin, end); });
  return call.assignment;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("linear_sum_assignment(Tensor cost, Tensor num_targets) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("linear_sum_assignment", TORCH_BOX(&linear_sum_assignment_cpu));
}

}  // namespace
}  // namespace maskformer_ext
