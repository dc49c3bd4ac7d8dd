// Where queries may attend: the signs of mask logits at the size of a feature level. Torch-free.
//
// Resizing is linear, so the features are resized and then multiplied. On a CPU, a panel of resized features is made in
// the second-level cache, multiplied with all queries, and forgotten.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dot_panel.h"

namespace maskformer_ext {

struct AttentionMaskParams {
  DotSource source;               // one layer; pixels are those of the result, strides those of the features
  int64_t row_stride;             // of the features, in elements; columns lie side by side
  int64_t in_height, in_width;    // of the features
  int64_t out_height, out_width;  // of the result
  const int32_t *lower, *upper;   // (out_width,) the two columns of each output
  const float* upper_weight;      // (out_width,)
  uint8_t* mask;                  // (images, queries, pixels), 1 where a query may attend
  int64_t panels() const { return (source.pixels + kPanelColumns - 1) / kPanelColumns; }
};

// Packs the embeddings of blocks [begin, end) of images * row_blocks.
MASKFORMER_EXT_CPU_KERNEL(attention_mask_pack, const DotSource& source, int64_t begin, int64_t end);

// Writes the columns of panels [begin, end) of images * panels(). `panel` holds channels * kPanelColumns floats, `row`
// in_width floats.
MASKFORMER_EXT_CPU_KERNEL(attention_mask_fwd, const AttentionMaskParams& params, float* panel, float* row,
                          int64_t begin, int64_t end);

struct AttentionRows {
  uint8_t* mask;  // (rows, pixels)
  int64_t rows, pixels;
};

// Fills those of the rows [begin, end) that are empty: a query that may attend nowhere attends everywhere.
MASKFORMER_EXT_CPU_KERNEL(fill_empty_rows, const AttentionRows& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
