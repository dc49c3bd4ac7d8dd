// CUDA kernels of torch.ops.maskformer_ext.attention_mask: guard, allocation, launches. That of mask_dot multiplies.
#include "attention_mask/attention_mask_cuda.h"
#include "attention_mask/call.h"
#include "mask_dot/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "attention_mask";

Tensor resized(const Tensor& features, int64_t height, int64_t width, CUstream_st* stream) {
  const int64_t images = features.size(0), channels = features.size(1);
  Tensor out = torch::stable::new_empty(features, {images, channels, height, width}, ScalarType::Float);
  resize_planes_cuda({.planes = features.const_data_ptr(),
                      .dtype = floating_dtype(features, op, "mask_features"),
                      .image_stride = features.stride(0),
                      .channel_stride = features.stride(1),
                      .row_stride = features.stride(2),
                      .column_stride = features.stride(3),
                      .images = images,
                      .channels = channels,
                      .in_height = features.size(2),
                      .in_width = features.size(3),
                      .out_height = height,
                      .out_width = width,
                      .out = out.mutable_data_ptr<float>()},
                     stream);
  return out;
}

Tensor attention_mask_on_gpu(const Tensor& mask_embed, const Tensor& mask_features,
                             torch::headeronly::IntHeaderOnlyArrayRef size, bool allow_tf32) {
  const CudaScope cuda(mask_embed);
  check_attention_mask(mask_embed, mask_features, size);
  const bool same = mask_features.size(2) == size[0] && mask_features.size(3) == size[1];
  const Tensor features = same ? mask_features : resized(mask_features, size[0], size[1], cuda.stream);
  DotOperands operands(op, mask_embed, features, allow_tf32);
  MaskDotCudaParams& dot = operands.params;
  Tensor mask = torch::stable::new_empty(mask_embed, {dot.images, dot.queries, size[0], size[1]}, ScalarType::Bool);
  if (mask.numel() == 0) return mask;
  dot.activation = MaskDotActivation::not_negative;
  dot.out = mask.mutable_data_ptr();
  dot.out_dtype = DType::uint8;
  mask_dot_cuda(dot, cuda.stream);
  fill_empty_rows_cuda({.mask = static_cast<uint8_t*>(dot.out), .rows = dot.images * dot.queries, .pixels = dot.pixels},
                       cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return mask;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("attention_mask", TORCH_BOX(&attention_mask_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
