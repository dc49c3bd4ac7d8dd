// torch.ops.maskformer_ext.uncertain_points: schema, checks and allocation, on the CPU.
#include "uncertain_points/call.h"

namespace maskformer_ext {
namespace {

Tensor uncertain_points_cpu(const Tensor& mask_logits, const Tensor& candidates, int64_t count) {
  const UncertainPointsCall call("uncertain_points", mask_logits, candidates, count);
  if (call.is_empty()) return call.chosen;
  torch::stable::parallel_for(0, call.params.masks, 1,
                              [&](int64_t begin, int64_t end) { uncertain_points(call.params, begin, end); });
  return call.chosen;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("uncertain_points(Tensor mask_logits, Tensor candidates, SymInt count) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("uncertain_points", TORCH_BOX(&uncertain_points_cpu));
}

}  // namespace
}  // namespace maskformer_ext
