// CUDA kernels of torch.ops.maskformer_ext.mask_loss and mask_loss_backward: guard, allocation, launch.
#include <optional>

#include "mask_loss/run_cuda.h"

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
  check_dim(maps_in, 4, op, "maps");
  check_dtype(maps_in, ScalarType::Float, op, "maps");
  const int64_t masks = maps_in.size(0), height = maps_in.size(2), width = maps_in.size(3);
  const auto of_masks = [&](const Tensor& tensor, const char* name) {
    check_dtype(tensor, ScalarType::Float, op, name);
    STD_TORCH_CHECK(tensor.dim() > 0 && tensor.size(0) == masks, op, ": ", name, " must have N = ", masks,
                    " rows, got shape ", shape_string(tensor));
    return torch::stable::contiguous(tensor);
  };
  const Tensor maps = torch::stable::contiguous(maps_in);
  const Tensor coefficients = of_masks(coefficients_in, "coefficients");
  std::optional<Tensor> grad_focal, grad_dice;
  if (grad_focal_in) grad_focal = of_masks(*grad_focal_in, "grad_focal");
  if (grad_dice_in) grad_dice = of_masks(*grad_dice_in, "grad_dice");
  Tensor grad = torch::stable::new_empty(maps, {masks, height, width}, dtype);
  const MaskLossGradCudaParams params = {
      .maps = maps.const_data_ptr<float>(),
      .coefficients = coefficients.const_data_ptr<float>(),
      .grad_focal = grad_focal ? grad_focal->const_data_ptr<float>() : nullptr,
      .grad_dice = grad_dice ? grad_dice->const_data_ptr<float>() : nullptr,
      .masks = masks,
      .pixels = height * width,
      .dtype = floating_dtype(grad, op, "mask_logits"),
      .grad_logits = grad.mutable_data_ptr(),
  };
  mask_loss_bwd_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return grad;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("mask_loss", TORCH_BOX(&mask_loss_on_gpu));
  library.impl("mask_loss_backward", TORCH_BOX(&mask_loss_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
