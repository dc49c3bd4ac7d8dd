// CUDA kernels of torch.ops.maskformer_ext.mask_loss and mask_loss_backward: guard, allocation, launch.
#include "mask_loss/call.h"
#include "mask_loss/call_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "mask_loss";

MaskLossOutputs mask_loss_on_gpu(const Tensor& mask_logits, const Tensor& targets_in, double alpha, double gamma,
                                 bool with_grad) {
  const CudaScope cuda(mask_logits);
  check_dim(mask_logits, 3, op, "mask_logits");
  check_dim(targets_in, 3, op, "targets");
  STD_TORCH_CHECK(targets_in.size(0) == mask_logits.size(0), op,
                  ": targets must be (N, H, W) with N = ", mask_logits.size(0), ", got ", shape_string(targets_in));
  const Tensor logits = with_contiguous_rows(mask_logits);
  const Tensor targets = with_contiguous_rows(targets_in);
  MaskLossCudaParams params = mask_loss_cuda_params(op, logits, targets, alpha, gamma);
  params.target_dtype = kernel_dtype(targets, op, "targets");
  params.target_plane_stride = targets.stride(0);
  return run_mask_loss_cuda(params, logits, with_grad, cuda);
}

Tensor mask_loss_backward_on_gpu(const Tensor& maps_in, const Tensor& coefficients_in,
                                 const std::optional<Tensor>& grad_focal_in, const std::optional<Tensor>& grad_dice_in,
                                 ScalarType dtype) {
  const CudaScope cuda(maps_in);
  MaskLossGradCall call(op, maps_in, coefficients_in, grad_focal_in, grad_dice_in, dtype);
  mask_loss_bwd_cuda(call.params, call.masks, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.grad_logits;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("mask_loss", TORCH_BOX(&mask_loss_on_gpu));
  library.impl("mask_loss_backward", TORCH_BOX(&mask_loss_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
