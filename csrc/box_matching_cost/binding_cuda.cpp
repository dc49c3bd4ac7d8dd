// CUDA kernel of torch.ops.maskformer_ext.box_matching_cost: guard, allocation, launch.
#include "box_matching_cost/call.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

Tensor box_matching_cost_on_gpu(const Tensor& logits, const Tensor& boxes, const Tensor& target_boxes,
                                const Tensor& labels, const Tensor& num_segments, double class_weight,
                                double box_weight, double giou_weight, bool softmax, double alpha, double gamma) {
  const CudaScope cuda(logits);
  const BoxCostCall call(logits, boxes, target_boxes, labels, num_segments,
                         {class_weight, box_weight, giou_weight, softmax, alpha, gamma});
  if (call.cost.numel() == 0) return call.cost;
  box_matching_cost_fwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("box_matching_cost", TORCH_BOX(&box_matching_cost_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
