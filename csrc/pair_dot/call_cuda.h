// A call of pair_dot on a GPU: tensors and workspace kept alive, and the kernels' parameters.
#pragma once

#include "pair_dot/call.h"
#include "pair_dot/pair_dot_cuda.h"

namespace maskformer_ext {

// The tensors that the parameters point into, kept alive beside them.
struct __attribute__((visibility("hidden"))) PairDotCall {
  PairDotCall(const char* op, const Tensor& embed_in, const Tensor& features_in, const Tensor& image_index_in,
              bool allow_tf32)
      : embed(torch::stable::contiguous(embed_in)),
        features(has_unit_stride(features_in) ? features_in : torch::stable::contiguous(features_in)),
        image_index(contiguous_indices(image_index_in, embed_in.size(0), op, "image_index")) {
    check_pairs(op, embed, features);
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
    begin = torch::stable::new_empty(embed, {2 * (params.images + 2)}, ScalarType::Int);
    params.begin = begin.mutable_data_ptr<int32_t>();
    params.tile_begin = params.begin + params.images + 2;
  }

  // Any stride will do for a dimension that has one element at most.
  static int64_t channel_stride(const Tensor& features) { return features.size(1) > 1 ? features.stride(1) : 1; }
  static int64_t pixel_stride(const Tensor& features) { return features.size(2) > 1 ? features.stride(2) : 1; }
  static bool has_unit_stride(const Tensor& features) {
    return features.dim() == 3 && (channel_stride(features) == 1 || pixel_stride(features) == 1);
  }

  Tensor embed, features, image_index, begin;
  PairDotCudaParams params = {};
};

}  // namespace maskformer_ext
