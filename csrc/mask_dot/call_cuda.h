// A call of mask_dot on a GPU: operands kept alive and the kernel's parameters. matching_cost_from_embeddings shares
// it.
#pragma once

#include "mask_dot/mask_dot_cuda.h"
#include "torch/checks.h"

namespace maskformer_ext {

inline Tensor as_dtype(const Tensor& tensor, ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

// The dtype in which two floating tensors are multiplied.
inline ScalarType product_dtype(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() ? a.scalar_type() : ScalarType::Float;
}

// Embeddings (..., B, Q, C) and features (B, C, h, w), kept alive beside the parameters that point into them. Features
// may be channels-last. Features with other strides are copied, and two dtypes become one.
struct DotOperands {
  DotOperands(const char* op, const Tensor& mask_embed, const Tensor& mask_features, bool allow_tf32) {
    floating_dtype(mask_embed, op, "mask_embed");
    floating_dtype(mask_features, op, "mask_features");
    check_dim(mask_features, 4, op, "mask_features");
    const int64_t dim = mask_embed.dim();
    STD_TORCH_CHECK(dim >= 3 && mask_embed.size(dim - 3) == mask_features.size(0) &&
                        mask_embed.size(dim - 1) == mask_features.size(1),
                    op, ": mask_embed must be (..., B, Q, C) as mask_features (B, C, h, w), got ",
                    shape_string(mask_embed), " and ", shape_string(mask_features));
    const ScalarType dtype = product_dtype(mask_embed, mask_features);
    embed = torch::stable::contiguous(as_dtype(mask_embed, dtype));
    features = as_dtype(mask_features, dtype);
    const int64_t channels = features.size(1), height = features.size(2), width = features.size(3);
    const bool one_stride = height <= 1 || width <= 1 || features.stride(2) == width * features.stride(3);
    const auto pixel_stride = [&] { return width > 1 ? features.stride(3) : height > 1 ? features.stride(2) : 1; };
    const auto channel_stride = [&] { return channels > 1 ? features.stride(1) : 1; };
    if (!one_stride || (pixel_stride() != 1 && channel_stride() != 1)) features = torch::stable::contiguous(features);
    params.embed = embed.const_data_ptr();
    params.features = features.const_data_ptr();
    params.dtype = floating_dtype(embed, op, "mask_embed");
    params.images = features.size(0);
    params.channels = channels;
    params.pixels = height * width;
    params.queries = embed.size(dim - 2);
    params.layers = 1;
    for (int64_t i = 0; i < dim - 3; ++i) params.layers *= embed.size(i);
    params.layer_stride = params.images * params.queries * channels;
    params.image_stride = features.stride(0);
    params.channel_stride = channel_stride();
    params.pixel_stride = pixel_stride();
    params.allow_tf32 = allow_tf32;
    STD_TORCH_CHECK(params.pixels < INT32_MAX / 2 && params.layers * params.queries < INT32_MAX / 2, op,
                    ": mask_features must have fewer than 2^30 pixels and mask_embed fewer rows per image, got ",
                    shape_string(mask_features), " and ", shape_string(mask_embed));
  }

  Tensor embed, features;
  MaskDotCudaParams params = {};
};

}  // namespace maskformer_ext
