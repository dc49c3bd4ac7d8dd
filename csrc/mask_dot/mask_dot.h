// Mask logits, every query's embedding times the features of every pixel, with an activation: the contract, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dot_panel.h"
#include "mask_dot/activation.h"

namespace maskformer_ext {

struct MaskDotParams {
  DotSource source;
  MaskDotActivation activation;
  void* out;  // (layers, images, queries, pixels) of out_dtype, contiguous
  DType out_dtype;
  int64_t panels() const { return (source.pixels + kPanelColumns - 1) / kPanelColumns; }
};

// Packs the embeddings of blocks [begin, end) of images * row_blocks.
MASKFORMER_EXT_CPU_KERNEL(mask_dot_pack, const DotSource& source, int64_t begin, int64_t end);

// Writes the columns of panels [begin, end) of images * panels(). `panel` holds channels * kPanelColumns + kPanelSlack
// floats for this thread.
MASKFORMER_EXT_CPU_KERNEL(mask_dot_fwd, const MaskDotParams& params, float* panel, int64_t begin, int64_t end);

}  // namespace maskformer_ext
