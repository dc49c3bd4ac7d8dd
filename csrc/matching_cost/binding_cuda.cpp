// CUDA kernels of torch.ops.maskformer_ext.matching_cost: guard, launch.
#include "matching_cost/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost";

Tensor matching_cost_on_gpu(const Tensor& class_logits, const Tensor& mask_logits_in, const Tensor& pixels,
                            const Tensor& labels, const Tensor& num_segments, const std::optional<Tensor>& void_pixels,
                            double class_weight, double focal_weight, double dice_weight, double alpha, double gamma,
                            bool ignore_void) {
  const CudaScope cuda(class_logits);
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  MatchingCostCall call(op, class_logits, {pixels, labels, num_segments, void_pixels, ignore_void},
                        {class_weight, focal_weight, dice_weight, alpha, gamma}, mask_logits.size(dim - 2),
                        mask_logits.size(dim - 1));
  STD_TORCH_CHECK(mask_logits.numel() == call.params.rows * call.params.pixels(), op,
                  ": class_logits must begin as mask_logits, got ", shape_string(class_logits), " and ",
                  shape_string(mask_logits));
  if (call.cost.numel() == 0) return call.cost;
  call.params.mask_logits = mask_logits.const_data_ptr();
  call.params.mask_dtype = floating_dtype(mask_logits, op, "mask_logits");
  matching_cost_targets_cuda(call.params, cuda.stream);
  matching_cost_rows_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("matching_cost", TORCH_BOX(&matching_cost_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
