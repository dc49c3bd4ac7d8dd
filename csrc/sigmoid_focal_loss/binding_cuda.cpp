// CUDA kernels of torch.ops.maskformer_ext.sigmoid_focal_loss and its backward: guard, allocation, launch.
#include "sigmoid_focal_loss/call.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

Tensor sigmoid_focal_loss_cuda(const Tensor& inputs, const Tensor& targets, double alpha, double gamma,
                               int64_t reduction) {
  const CudaScope cuda(inputs);
  FocalCall call(inputs, targets, alpha, gamma);
  const bool reduce = reduction != FocalCall::kNone;
  Tensor loss = call.new_loss(reduce);
  if (!reduce) {
    call.params.loss = loss.mutable_data_ptr();
    sigmoid_focal_loss_fwd_cuda(call.params, nullptr, 1.0, cuda.stream);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    return loss;
  }
  Tensor block_sums = torch::stable::new_empty(call.inputs, {call.blocks()}, ScalarType::Double);
  call.params.block_sums = block_sums.mutable_data_ptr<double>();
  sigmoid_focal_loss_fwd_cuda(call.params, loss.mutable_data_ptr<float>(), call.divisor(reduction), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return loss;
}

Tensor sigmoid_focal_loss_backward_cuda(const Tensor& grad, const Tensor& inputs, const Tensor& targets, double alpha,
                                        double gamma) {
  const CudaScope cuda(inputs);
  FocalCall call(inputs, targets, alpha, gamma);
  // Autograd gives the gradient in the loss's dtype: float32 of a reduced loss, else the inputs'. The kernels take no
  // other.
  const ScalarType dtype = grad.dim() == 0 ? ScalarType::Float : call.inputs.scalar_type();
  Tensor& grad_inputs = call.with_grad(torch::stable::to(grad, dtype));
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
