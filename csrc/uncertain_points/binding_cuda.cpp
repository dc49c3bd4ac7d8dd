// CUDA kernel of torch.ops.maskformer_ext.uncertain_points: guard, workspace, launch.
#include "torch/cuda_stream.h"
#include "uncertain_points/call.h"
#include "uncertain_points/uncertain_points_cuda.h"

namespace maskformer_ext {
namespace {

Tensor uncertain_points_on_gpu(const Tensor& mask_logits, const Tensor& candidates, int64_t count) {
  const CudaScope cuda(mask_logits);
  const UncertainPointsCall call("uncertain_points", mask_logits, candidates, count);
  if (call.is_empty()) return call.chosen;
  Tensor keys =
      torch::stable::new_empty(call.candidates, {call.params.masks, call.params.num_candidates}, ScalarType::Int);
  uncertain_points_cuda({call.params, keys.mutable_data_ptr<int32_t>()}, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.chosen;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("uncertain_points", TORCH_BOX(&uncertain_points_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
