// CUDA kernels of torch.ops.maskformer_ext.dice_loss and its backward: guard, allocation, launch.
#include <tuple>

#include "dice_loss/call.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

DiceCall checked_call(const Tensor& mask_logits, const Tensor& targets) {
  DiceCall call(mask_logits, targets, DiceLossParams::kCudaBlock);
  STD_TORCH_CHECK(call.params.masks <= INT32_MAX && call.items() <= INT32_MAX, call.op,
                  ": mask_logits must have fewer than 2^31 masks and blocks of ", DiceLossParams::kCudaBlock,
                  " pixels, got shape ", shape_string(mask_logits));
  return call;
}

std::tuple<Tensor, Tensor> dice_loss_on_gpu(const Tensor& mask_logits, const Tensor& targets) {
  const CudaScope cuda(mask_logits);
  DiceCall call = checked_call(mask_logits, targets);
  call.with_loss();
  constexpr int64_t bytes = sizeof(DiceSums);
  Tensor sums = torch::stable::new_empty(call.logits, {call.items() * bytes}, ScalarType::Byte);
  call.params.sums = static_cast<DiceSums*>(sums.mutable_data_ptr());
  dice_loss_fwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {call.loss, call.coefficients};
}

Tensor dice_loss_backward_on_gpu(const Tensor& grad, const Tensor& mask_logits, const Tensor& targets,
                                 const Tensor& coefficients) {
  const CudaScope cuda(mask_logits);
  DiceCall call = checked_call(mask_logits, targets);
  call.with_grad(grad, coefficients);
  dice_loss_bwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.grad_logits;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("dice_loss", TORCH_BOX(&dice_loss_on_gpu));
  library.impl("dice_loss_backward", TORCH_BOX(&dice_loss_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
