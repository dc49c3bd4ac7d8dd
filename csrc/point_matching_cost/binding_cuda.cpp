// CUDA kernels of torch.ops.maskformer_ext.point_matching_cost: guard, launches.
#include "point_matching_cost/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_matching_cost";

Tensor point_matching_cost_on_gpu(const Tensor& class_logits, const Tensor& mask_logits_in, const Tensor& pixels,
                                  const Tensor& labels, const Tensor& num_segments, const Tensor& points,
                                  double class_weight, double mask_weight, double dice_weight, int64_t sampling) {
  const CudaScope cuda(class_logits);
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  const int64_t height = mask_logits.size(dim - 2), width = mask_logits.size(dim - 1);
  PointMatchingCostCall call(op, class_logits, {pixels, labels, num_segments, points, sampling}, class_weight,
                             mask_weight, dice_weight, height, width, 0);
  STD_TORCH_CHECK(mask_logits.numel() == call.problems * call.params.queries * height * width, op,
                  ": class_logits must begin as mask_logits, got ", shape_string(class_logits), " and ",
                  shape_string(mask_logits));
  if (call.cost.numel() == 0) return call.cost;
  call.params.logits_dtype = floating_dtype(mask_logits, op, "mask_logits");
  const int64_t problem_size = call.params.queries * height * width * dtype_size(call.params.logits_dtype);
  for (int64_t first = 0; first < call.problems; first += call.at_once) {
    PointMatchingCostCudaParams params = call.params;
    params.first_problem = first;
    params.problems = std::min(call.at_once, call.problems - first);
    params.logits = static_cast<const char*>(mask_logits.const_data_ptr()) + first * problem_size;
    point_matching_cost_cuda(params, cuda.stream);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("point_matching_cost", TORCH_BOX(&point_matching_cost_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
