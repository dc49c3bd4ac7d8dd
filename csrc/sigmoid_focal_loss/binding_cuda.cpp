// CUDA kernels of torch.ops.maskformer_ext.sigmoid_focal_loss and its backward: guard, allocation, launch.
#include "common/cuda_stream.h"
#include "sigmoid_focal_loss/binding.h"

namespace maskformer_ext {
namespace {

Tensor sigmoid_focal_loss_cuda(const Tensor& inputs, const Tensor& targets, double alpha, double gamma, bool reduce) {
  const CudaScope cuda(inputs);
  FocalCall call(inputs, targets, alpha, gamma);
  if (!reduce) {
    Tensor loss = torch::stable::new_empty(call.inputs, call.inputs.sizes());
    call.params.loss = loss.mutable_data_ptr();
    sigmoid_focal_loss_fwd_cuda(call.params, nullptr, cuda.stream);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    return loss;
  }
  Tensor loss = torch::stable::new_empty(call.inputs, {});
  Tensor block_sums = torch::stable::new_empty(call.inputs, {call.blocks()}, ScalarType::Double);
  call.params.block_sums = block_sums.mutable_data_ptr<double>();
  sigmoid_focal_loss_fwd_cuda(call.params, loss.mutable_data_ptr(), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return loss;
}

Tensor sigmoid_focal_loss_backward_cuda(const Tensor& grad, const Tensor& inputs, const Tensor& targets, double alpha,
                                        double gamma) {
  const CudaScope cuda(inputs);
  FocalCall call(inputs, targets, alpha, gamma);
  // Autograd gives the gradient in the loss's dtype, which is the inputs'; so the kernels know no other.
  Tensor& grad_inputs = call.with_grad(torch::stable::to(grad, call.inputs.scalar_type()));
  sigmoid_focal_loss_bwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_inputs;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss_cuda));
  library.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward_cuda));
}

}  // namespace
}  // namespace maskformer_ext
