// A call of sigmoid_focal_loss, shared by its CPU and CUDA bindings: checks, tensors kept alive, and the kernels'
// parameters.
#pragma once

#include "sigmoid_focal_loss/sigmoid_focal_loss.h"
#include "torch/checks.h"

namespace maskformer_ext {

// The tensors that the parameters point into, kept alive beside them.
struct FocalCall {
  FocalCall(const Tensor& inputs_in, const Tensor& targets_in, double alpha, double gamma)
      : inputs(torch::stable::contiguous(inputs_in)), targets(torch::stable::contiguous(targets_in)) {
    check_same_shape(inputs, targets, op, "inputs", "targets");
    params.logits = inputs.const_data_ptr();
    params.logits_dtype = floating_dtype(inputs, op, "inputs");
    params.targets = targets.const_data_ptr();
    params.targets_dtype = floating_dtype(targets, op, "targets");
    params.numel = inputs.numel();
    params.alpha_inside = alpha < 0 ? 1.0f : static_cast<float>(alpha);
    params.alpha_outside = alpha < 0 ? 1.0f : static_cast<float>(1.0 - alpha);
    params.gamma = static_cast<float>(gamma);
  }

  // The numbers are those of Python's list of reductions.
  static constexpr int64_t kNone = 0, kMean = 1;

  // Losses per element are in the inputs' dtype. A sum or mean is in float32, since a sum may pass what 16 bits hold.
  Tensor new_loss(bool reduce) const {
    return reduce ? torch::stable::new_empty(inputs, {}, ScalarType::Float)
                  : torch::stable::new_empty(inputs, inputs.sizes());
  }

  // The number that the sum of the losses is divided by.
  double divisor(int64_t reduction) const { return reduction == kMean ? static_cast<double>(params.numel) : 1.0; }

  // For backward: takes the gradient of the loss, () or of the inputs' shape. Allocates the gradient of the inputs.
  Tensor& with_grad(const Tensor& grad_in) {
    if (grad_in.dim() > 0) check_same_shape(grad_in, inputs, op, "grad", "inputs");
    grad = torch::stable::contiguous(grad_in);
    grad_inputs = torch::stable::new_empty(inputs, inputs.sizes());
    params.grad = grad.const_data_ptr();
    params.grad_dtype = floating_dtype(grad, op, "grad");
    params.grad_is_scalar = grad.dim() == 0;
    params.grad_logits = grad_inputs.mutable_data_ptr();
    return grad_inputs;
  }

  int64_t blocks() const { return (params.numel + params.kBlock - 1) / params.kBlock; }

  static constexpr const char* op = "sigmoid_focal_loss";
  Tensor inputs, targets, grad, grad_inputs;
  SigmoidFocalLossParams params = {};
};

}  // namespace maskformer_ext
