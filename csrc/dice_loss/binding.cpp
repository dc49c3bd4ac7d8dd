// torch.ops.maskformer_ext.dice_loss and dice_loss_backward: schemas, checks, allocation, CPU.
#include <tuple>
#include <vector>

#include "common/checks.h"
#include "dice_loss/dice_loss.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "dice_loss";

DiceLossParams dice_params(const Tensor& logits, const Tensor& targets) {
  check_dim(logits, 2, op, "mask_logits");
  check_same_shape(logits, targets, op, "mask_logits", "targets");
  DiceLossParams params = {};
  params.logits = logits.const_data_ptr();
  params.logits_dtype = floating_dtype(logits, op, "mask_logits");
  params.targets = targets.const_data_ptr();
  params.targets_dtype = kernel_dtype(targets, op, "targets");
  params.masks = logits.size(0);
  params.pixels = logits.size(1);
  params.blocks = (params.pixels + params.kBlock - 1) / params.kBlock;
  return params;
}

std::tuple<Tensor, Tensor> dice_loss_cpu(const Tensor& mask_logits, const Tensor& targets_in) {
  const Tensor logits = torch::stable::contiguous(mask_logits);
  const Tensor targets = torch::stable::contiguous(targets_in);
  DiceLossParams params = dice_params(logits, targets);
  Tensor loss = torch::stable::new_empty(logits, {params.masks}, ScalarType::Float);
  Tensor coefficients = torch::stable::new_empty(logits, {params.masks, 2}, ScalarType::Float);
  std::vector<DiceSums> sums(params.masks * params.blocks);
  params.sums = sums.data();
  params.loss = loss.mutable_data_ptr<float>();
  params.coefficients = coefficients.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, params.masks * params.blocks, 1,
                              [&](int64_t begin, int64_t end) { dice_loss_fwd(params, begin, end); });
  dice_loss_finish(params, 0, params.masks);
  return {loss, coefficients};
}

Tensor dice_loss_backward_cpu(const Tensor& grad_in, const Tensor& mask_logits, const Tensor& targets_in,
                              const Tensor& coefficients_in) {
  const Tensor logits = torch::stable::contiguous(mask_logits);
  const Tensor targets = torch::stable::contiguous(targets_in);
  Tensor coefficients = torch::stable::contiguous(coefficients_in);
  const Tensor grad = torch::stable::contiguous(grad_in);
  DiceLossParams params = dice_params(logits, targets);
  check_dtype(grad, ScalarType::Float, op, "grad");
  check_dtype(coefficients, ScalarType::Float, op, "coefficients");
  STD_TORCH_CHECK(grad.numel() == params.masks && coefficients.numel() == 2 * params.masks, op, ": grad must be (",
                  params.masks, ",), got ", shape_string(grad));
  Tensor grad_logits = torch::stable::new_empty(logits, logits.sizes());
  params.coefficients = coefficients.mutable_data_ptr<float>();
  params.grad = grad.const_data_ptr<float>();
  params.grad_logits = grad_logits.mutable_data_ptr();
  torch::stable::parallel_for(0, params.masks * params.blocks, 1,
                              [&](int64_t begin, int64_t end) { dice_loss_bwd(params, begin, end); });
  return grad_logits;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("dice_loss(Tensor mask_logits, Tensor targets) -> (Tensor loss, Tensor coefficients)");
  library.def("dice_loss_backward(Tensor grad, Tensor mask_logits, Tensor targets, Tensor coefficients) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("dice_loss", TORCH_BOX(&dice_loss_cpu));
  library.impl("dice_loss_backward", TORCH_BOX(&dice_loss_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
