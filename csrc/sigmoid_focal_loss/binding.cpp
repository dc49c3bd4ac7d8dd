// torch.ops.maskformer_ext.sigmoid_focal_loss and its backward: schemas, checks, allocation, CPU.
#include <numeric>
#include <vector>

#include "common/checks.h"
#include "sigmoid_focal_loss/sigmoid_focal_loss.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "sigmoid_focal_loss";

SigmoidFocalLossParams focal_params(const Tensor& inputs, const Tensor& targets, double alpha, double gamma) {
  SigmoidFocalLossParams params = {};
  params.logits = inputs.const_data_ptr();
  params.logits_dtype = floating_dtype(inputs, op, "inputs");
  params.targets = targets.const_data_ptr();
  params.targets_dtype = floating_dtype(targets, op, "targets");
  params.numel = inputs.numel();
  params.alpha_inside = alpha < 0 ? 1.0f : static_cast<float>(alpha);
  params.alpha_outside = alpha < 0 ? 1.0f : static_cast<float>(1.0 - alpha);
  params.gamma = static_cast<float>(gamma);
  return params;
}

int64_t blocks_of(int64_t numel) {
  return (numel + SigmoidFocalLossParams::kBlock - 1) / SigmoidFocalLossParams::kBlock;
}

Tensor sigmoid_focal_loss_cpu(const Tensor& inputs_in, const Tensor& targets_in, double alpha, double gamma,
                              bool reduce) {
  check_same_shape(inputs_in, targets_in, op, "inputs", "targets");
  const Tensor inputs = torch::stable::contiguous(inputs_in);
  const Tensor targets = torch::stable::contiguous(targets_in);
  SigmoidFocalLossParams params = focal_params(inputs, targets, alpha, gamma);
  const int64_t blocks = blocks_of(params.numel);
  std::vector<double> block_sums(reduce ? blocks : 0);
  Tensor loss = reduce ? torch::stable::new_empty(inputs, {}) : torch::stable::new_empty(inputs, inputs.sizes());
  params.loss = reduce ? nullptr : loss.mutable_data_ptr();
  params.block_sums = reduce ? block_sums.data() : nullptr;
  torch::stable::parallel_for(0, blocks, 1,
                              [&](int64_t begin, int64_t end) { sigmoid_focal_loss_fwd(params, begin, end); });
  if (reduce) torch::stable::fill_(loss, std::accumulate(block_sums.begin(), block_sums.end(), 0.0));
  return loss;
}

Tensor sigmoid_focal_loss_backward_cpu(const Tensor& grad_in, const Tensor& inputs_in, const Tensor& targets_in,
                                       double alpha, double gamma) {
  check_same_shape(inputs_in, targets_in, op, "inputs", "targets");
  if (grad_in.dim() > 0) check_same_shape(grad_in, inputs_in, op, "grad", "inputs");
  const Tensor grad = torch::stable::contiguous(grad_in);
  const Tensor inputs = torch::stable::contiguous(inputs_in);
  const Tensor targets = torch::stable::contiguous(targets_in);
  Tensor grad_inputs = torch::stable::new_empty(inputs, inputs.sizes());
  SigmoidFocalLossParams params = focal_params(inputs, targets, alpha, gamma);
  params.grad = grad.const_data_ptr();
  params.grad_dtype = floating_dtype(grad, op, "grad");
  params.grad_is_scalar = grad.dim() == 0;
  params.grad_logits = grad_inputs.mutable_data_ptr();
  torch::stable::parallel_for(0, blocks_of(params.numel), 1,
                              [&](int64_t begin, int64_t end) { sigmoid_focal_loss_bwd(params, begin, end); });
  return grad_inputs;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("sigmoid_focal_loss(Tensor inputs, Tensor targets, float alpha, float gamma, bool reduce) -> Tensor");
  library.def(
      "sigmoid_focal_loss_backward(Tensor grad, Tensor inputs, Tensor targets, float alpha, float gamma) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss_cpu));
  library.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
