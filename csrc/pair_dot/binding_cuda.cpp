// CUDA kernels of torch.ops.maskformer_ext.pair_dot and pair_dot_backward: guard, checks, workspace, launch.
#include <tuple>

#include "common/cuda_stream.h"
#include "pair_dot/binding.h"
#include "pair_dot/pair_dot_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "pair_dot";

// The tensors that the parameters point into, kept alive beside them.
struct PairDotCall {
  PairDotCall(const Tensor& embed_in, const Tensor& features_in, const Tensor& image_index_in, bool allow_tf32)
      : embed(torch::stable::contiguous(embed_in)),
        features(has_unit_stride(features_in) ? features_in : torch::stable::contiguous(features_in)),
        image_index(contiguous_indices(image_index_in, embed_in.size(0), op, "image_index")) {
    check_pairs(embed, features);
    params.embed = embed.const_data_ptr();
    params.features = features.const_data_ptr();
    params.dtype = floating_dtype(embed, op, "embed");
    params.image_index = image_index.const_data_ptr<int64_t>();
    params.pairs = embed.size(0);
    params.layers = embed.size(1);
    params.channels = embed.size(2);
    params.images = features.size(0);
    params.pixels = features.size(2);
    params.image_stride = features.stride(0);
    params.channel_stride = channel_stride(features);
    params.pixel_stride = pixel_stride(features);
    params.allow_tf32 = allow_tf32;
    STD_TORCH_CHECK(params.rows() < INT32_MAX / 2 && params.pixels < INT32_MAX / 2, op,
                    ": embed must have fewer than 2^30 rows and features fewer pixels, got ", shape_string(embed),
                    " and ", shape_string(features));
    begin = torch::stable::new_empty(embed, {params.images + 1}, ScalarType::Int);
    params.begin = begin.mutable_data_ptr<int32_t>();
  }

  // Of a dimension that has one element at most, any stride will do.
  static int64_t channel_stride(const Tensor& features) { return features.size(1) > 1 ? features.stride(1) : 1; }
  static int64_t pixel_stride(const Tensor& features) { return features.size(2) > 1 ? features.stride(2) : 1; }
  static bool has_unit_stride(const Tensor& features) {
    return features.dim() == 3 && (channel_stride(features) == 1 || pixel_stride(features) == 1);
  }

  Tensor embed, features, image_index, begin;
  PairDotCudaParams params = {};
};

Tensor pair_dot_on_gpu(const Tensor& embed, const Tensor& features, const Tensor& image_index, bool allow_tf32) {
  const CudaScope cuda(embed);
  PairDotCall call(embed, features, image_index, allow_tf32);
  Tensor logits = torch::stable::new_empty(embed, {call.params.pairs, call.params.layers, call.params.pixels});
  call.params.logits = logits.mutable_data_ptr();
  pair_dot_fwd_cuda(call.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return logits;
}

std::tuple<Tensor, Tensor> pair_dot_backward_on_gpu(const Tensor& grad_in, const Tensor& embed, const Tensor& features,
                                                    const Tensor& image_index, bool allow_tf32) {
  const CudaScope cuda(embed);
  PairDotCall call(embed, features, image_index, allow_tf32);
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
