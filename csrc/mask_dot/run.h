// What the bindings that multiply embeddings with features share: packing, then panels over threads.
#pragma once

#include "common/dot_source.h"
#include "mask_dot/mask_dot.h"

namespace maskformer_ext {

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
