// A call of dice_loss, shared by its CPU and CUDA bindings: checks, tensors kept alive, and the kernels' parameters.
#pragma once

#include "dice_loss/dice_loss.h"
#include "torch/checks.h"

namespace maskformer_ext {

// The tensors that the parameters point into, kept alive beside them.
struct __attribute__((visibility("hidden"))) DiceCall {
  DiceCall(const Tensor& mask_logits, const Tensor& targets_in, int64_t block)
      : logits(torch::stable::contiguous(mask_logits)), targets(torch::stable::contiguous(targets_in)) {
    check_dim(logits, 2, op, "mask_logits");
    check_same_shape(logits, targets, op, "mask_logits", "targets");
    params.logits = logits.const_data_ptr();
    params.logits_dtype = floating_dtype(logits, op, "mask_logits");
    params.targets = targets.const_data_ptr();
    params.targets_dtype = kernel_dtype(targets, op, "targets");
    params.masks = logits.size(0);
    params.pixels = logits.size(1);
    params.blocks = (params.pixels + block - 1) / block;
  }

  // For forward: allocates the losses and the factors of their gradients.
  void with_loss() {
    loss = torch::stable::new_empty(logits, {params.masks}, ScalarType::Float);
    coefficients = torch::stable::new_empty(logits, {params.masks, 2}, ScalarType::Float);
    params.loss = loss.mutable_data_ptr<float>();
    params.coefficients = coefficients.mutable_data_ptr<float>();
  }

  // For backward: takes the gradient of the losses and what forward returned, and allocates that of the logits.
  void with_grad(const Tensor& grad_in, const Tensor& coefficients_in) {
    coefficients = torch::stable::contiguous(coefficients_in);
    grad = torch::stable::contiguous(grad_in);
    check_dtype(grad, ScalarType::Float, op, "grad");
    check_dtype(coefficients, ScalarType::Float, op, "coefficients");
    STD_TORCH_CHECK(grad.numel() == params.masks && coefficients.numel() == 2 * params.masks, op, ": grad must be (",
                    params.masks, ",), got ", shape_string(grad));
    grad_logits = torch::stable::new_empty(logits, logits.sizes());
    params.coefficients = coefficients.mutable_data_ptr<float>();
    params.grad = grad.const_data_ptr<float>();
    params.grad_logits = grad_logits.mutable_data_ptr();
  }

  int64_t items() const { return params.masks * params.blocks; }

  static constexpr const char* op = "dice_loss";
  Tensor logits, targets, loss, coefficients, grad, grad_logits;
  DiceLossParams params = {};
};

}  // namespace maskformer_ext
