// A call of the CPU's mask dot products: tensors and packed memory kept alive, the kernels' parameters, and the run.
// The bindings of mask_dot, pair_dot and matching_cost_from_embeddings share it.
#pragma once

#include "common/aligned.h"
#include "common/dot_panel.h"
#include "mask_dot/mask_dot.h"
#include "torch/checks.h"

namespace maskformer_ext {

// Embeddings (..., B, Q, C) and features (B, C, h, w) as a DotSource. Features may be channels-last. Embeddings that
// are not contiguous are copied, and so are features whose rows and columns of pixels do not form one stride.
class DotTensors {
 public:
  DotSource source = {};

  DotTensors(const char* op, const Tensor& mask_embed, const Tensor& mask_features)
      : embed_(torch::stable::contiguous(mask_embed)),
        features_(one_pixel_stride(mask_features) ? mask_features : torch::stable::contiguous(mask_features)) {
    const int64_t dim = embed_.dim();
    check_dim(features_, 4, op, "mask_features");
    STD_TORCH_CHECK(dim >= 3 && embed_.size(dim - 3) == features_.size(0) && embed_.size(dim - 1) == features_.size(1),
                    op, ": mask_embed must be (..., B, Q, C) as mask_features (B, C, h, w), got ", shape_string(embed_),
                    " and ", shape_string(features_));
    source.embed = embed_.const_data_ptr();
    source.embed_dtype = floating_dtype(embed_, op, "mask_embed");
    source.features = features_.const_data_ptr();
    source.features_dtype = floating_dtype(features_, op, "mask_features");
    source.image_stride = features_.stride(0);
    source.channel_stride = features_.stride(1);
    source.images = features_.size(0);
    source.channels = features_.size(1);
    source.pixels = features_.size(2) * features_.size(3);
    source.pixel_stride = features_.size(3) > 1 ? features_.stride(3) : features_.stride(2);
    source.queries = embed_.size(dim - 2);
    source.layers = 1;
    for (int64_t i = 0; i < dim - 3; ++i) source.layers *= embed_.size(i);
    if (source.pixels <= 1) source.pixel_stride = 1;
    packed_.resize(source.images * source.row_blocks() * source.channels * kDotRows);
    source.packed = packed_.data();
  }
  DotTensors(const DotTensors&) = delete;
  DotTensors& operator=(const DotTensors&) = delete;

  int64_t panel_floats() const { return source.channels * kPanelColumns + kPanelSlack; }

 private:
  Tensor embed_, features_;
  baseline::AlignedVector<float> packed_;

  static bool one_pixel_stride(const Tensor& features) {
    return features.dim() == 4 && (features.size(2) <= 1 || features.size(3) <= 1 ||
                                   features.stride(2) == features.size(3) * features.stride(3));
  }
};

// Writes (layers, images, queries, pixels) of out_dtype.
inline void run_mask_dot(const DotTensors& dot, MaskDotActivation activation, void* out, DType out_dtype) {
  const MaskDotParams params = {.source = dot.source, .activation = activation, .out = out, .out_dtype = out_dtype};
  const int64_t blocks = params.source.images * params.source.row_blocks();
  torch::stable::parallel_for(0, blocks, 16,
                              [&](int64_t begin, int64_t end) { mask_dot_pack(params.source, begin, end); });
  // A panel of fewer products than this takes less time than waking a thread.
  const int64_t products = kPanelColumns * (1 + params.source.rows() * params.source.channels);
  torch::stable::parallel_for(0, params.source.images * params.panels(), 1 + (int64_t{1} << 20) / products,
                              [&](int64_t begin, int64_t end) {
                                baseline::AlignedVector<float> panel(dot.panel_floats());
                                mask_dot_fwd(params, panel.data(), begin, end);
                              });
}

}  // namespace maskformer_ext
