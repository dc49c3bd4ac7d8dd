// torch.ops.maskformer_ext.dice_loss and dice_loss_backward: schemas and allocation, on the CPU.
#include "dice_loss/call.h"

#include <tuple>
#include <vector>

namespace maskformer_ext {
namespace {

std::tuple<Tensor, Tensor> dice_loss_cpu(const Tensor& mask_logits, const Tensor& targets) {
  DiceCall call(mask_logits, targets, DiceLossParams::kBlock);
  call.with_loss();
  std::vector<DiceSums> sums(call.items());
  call.params.sums = sums.data();
  torch::stable::parallel_for(0, call.items(), 1,
                              [&](int64_t begin, int64_t end) { dice_loss_fwd(call.params, begin, end); });
  dice_loss_finish(call.params, 0, call.params.masks);
  return {call.loss, call.coefficients};
}

Tensor dice_loss_backward_cpu(const Tensor& grad, const Tensor& mask_logits, const Tensor& targets,
                              const Tensor& coefficients) {
  DiceCall call(mask_logits, targets, DiceLossParams::kBlock);
  call.with_grad(grad, coefficients);
  torch::stable::parallel_for(0, call.items(), 1,
                              [&](int64_t begin, int64_t end) { dice_loss_bwd(call.params, begin, end); });
  return call.grad_logits;
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
