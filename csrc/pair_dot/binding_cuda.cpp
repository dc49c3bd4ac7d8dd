// CUDA kernels of torch.ops.maskformer_ext.pair_dot and pair_dot_backward: guard, checks, workspace, launch.
#include <tuple>

#include "pair_dot/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "pair_dot";

Tensor pair_dot_on_gpu(const Tensor& embed, const Tensor& features, const Tensor& image_index, bool allow_tf32) {
  const CudaScope cuda(embed);
  PairDotCall call(op, embed, features, image_index, allow_tf32);
  Tensor logits = torch::stable::new_empty(embed, {call.params.pairs, call.params.layers, call.params.pixels});
  call.params.logits = logits.mutable_data_ptr();
  pair_dot_fwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return logits;
}

std::tuple<Tensor, Tensor> pair_dot_backward_on_gpu(const Tensor& grad_in, const Tensor& embed, const Tensor& features,
                                                    const Tensor& image_index, bool allow_tf32) {
  const CudaScope cuda(embed);
  PairDotCall call(op, embed, features, image_index, allow_tf32);
  const Tensor grad = torch::stable::contiguous(grad_in);
  STD_TORCH_CHECK(grad.scalar_type() == embed.scalar_type() && grad.numel() == call.params.rows() * call.params.pixels,
                  op, ": grad must be (P, L, N) of the dtype of embed, got ", shape_string(grad));
  Tensor grad_embed = torch::stable::new_empty(embed, embed.sizes());
  Tensor grad_features = torch::stable::empty_like(features);  // dense: not always the strides of features
  call.params.part_pixels = pair_dot_part_pixels(call.params);
  Tensor partial = torch::stable::new_empty(embed, {call.params.parts() * grad_embed.numel()}, ScalarType::Float);
  if (call.params.pixels == 0 || call.params.images == 0) torch::stable::zero_(grad_embed);
  call.params.grad = grad.const_data_ptr();
  call.params.grad_embed = grad_embed.mutable_data_ptr();
  call.params.grad_features = grad_features.mutable_data_ptr();
  call.params.grad_image_stride = grad_features.stride(0);
  call.params.grad_channel_stride = grad_features.stride(1);
  call.params.grad_pixel_stride = grad_features.stride(2);
  call.params.partial = partial.mutable_data_ptr<float>();
  pair_dot_bwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_embed, grad_features};
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("pair_dot", TORCH_BOX(&pair_dot_on_gpu));
  library.impl("pair_dot_backward", TORCH_BOX(&pair_dot_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
