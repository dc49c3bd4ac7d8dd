// torch.ops.maskformer_ext.sigmoid_focal_loss and its backward: schemas and allocation, on the CPU.
#include "sigmoid_focal_loss/call.h"

#include <numeric>
#include <vector>

namespace maskformer_ext {
namespace {

Tensor sigmoid_focal_loss_cpu(const Tensor& inputs, const Tensor& targets, double alpha, double gamma,
                              int64_t reduction) {
  FocalCall call(inputs, targets, alpha, gamma);
  const bool reduce = reduction != FocalCall::kNone;
  std::vector<double> block_sums(reduce ? call.blocks() : 0);
  Tensor loss = call.new_loss(reduce);
  call.params.loss = reduce ? nullptr : loss.mutable_data_ptr();
  call.params.block_sums = reduce ? block_sums.data() : nullptr;
  torch::stable::parallel_for(0, call.blocks(), 1,
                              [&](int64_t begin, int64_t end) { sigmoid_focal_loss_fwd(call.params, begin, end); });
  if (reduce) {
    const double sum = std::accumulate(block_sums.begin(), block_sums.end(), 0.0);
    torch::stable::fill_(loss, sum / call.divisor(reduction));
  }
  return loss;
}

Tensor sigmoid_focal_loss_backward_cpu(const Tensor& grad, const Tensor& inputs, const Tensor& targets, double alpha,
                                       double gamma) {
  FocalCall call(inputs, targets, alpha, gamma);
  Tensor& grad_inputs = call.with_grad(grad);
  torch::stable::parallel_for(0, call.blocks(), 1,
                              [&](int64_t begin, int64_t end) { sigmoid_focal_loss_bwd(call.params, begin, end); });
  return grad_inputs;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("sigmoid_focal_loss(Tensor inputs, Tensor targets, float alpha, float gamma, int reduction) -> Tensor");
  library.def(
      "sigmoid_focal_loss_backward(Tensor grad, Tensor inputs, Tensor targets, float alpha, float gamma) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss_cpu));
  library.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
