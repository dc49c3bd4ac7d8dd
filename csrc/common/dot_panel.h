// Mask dot products, panel by panel: the embeddings of all queries of an image times the features of some pixels.
//
// A panel holds all channels of the features of kPanelColumns pixels, which runs choose and order. It stays in the
// second-level cache while all queries are multiplied with it, kDotRows at a time. The caller decides what becomes of a
// block of logits. mask_dot stores it. matching_cost_from_embeddings reduces it while it is in the first-level cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

inline constexpr int64_t kDotRows = 4;         // queries that are multiplied at once
inline constexpr int64_t kPanelColumns = 192;  // a multiple of three vectors of any width
inline constexpr int64_t kPanelSlack = 16;     // floats behind a panel that packing may write

// Where embeddings and features lie, and where the packed embeddings go.
struct DotSource {
  const void* embed;  // (layers, images, queries, channels) of embed_dtype
  DType embed_dtype;
  const void* features;  // (images, channels, pixels) of features_dtype, with the strides below, in elements
  DType features_dtype;
  int64_t image_stride, channel_stride, pixel_stride;
  int64_t layers, images, queries, channels, pixels;
  float* packed;  // (images, row_blocks, channels, kDotRows): row = layer * queries + query, 0 beyond the last one
  int64_t rows() const { return layers * queries; }
  int64_t row_blocks() const { return (rows() + kDotRows - 1) / kDotRows; }
};

// Pixels that lie side by side, and their first column in a panel.
struct PanelRun {
  int64_t pixel, column, length;
};

}  // namespace maskformer_ext

#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

inline constexpr int kDotVecs = 3;
static_assert(kPanelColumns % (kDotVecs * kLanes) == 0);

// Packs blocks [begin, end) of images * row_blocks().
inline void pack_embed_blocks(const DotSource& source, int64_t begin, int64_t end) {
  const int64_t blocks = source.row_blocks(), depth = source.channels;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / blocks, first = item % blocks * kDotRows;
    float* to = source.packed + item * depth * kDotRows;
    for (int64_t r = 0; r < kDotRows; ++r) {
      if (first + r >= source.rows()) {
        for (int64_t c = 0; c < depth; ++c) to[c * kDotRows + r] = 0.0f;
        continue;
      }
      const int64_t layer = (first + r) / source.queries, query = (first + r) % source.queries;
      const int64_t offset = ((layer * source.images + image) * source.queries + query) * depth;
      for_float_type(source.embed_dtype, [&](auto type) {
        const auto* from = static_cast<const decltype(type)*>(source.embed) + offset;
        for (int64_t c = 0; c < depth; ++c) to[c * kDotRows + r] = to_float(from[c]);
      });
    }
  }
}

// Converts a run to columns of a panel, in blocks of 16 where the row of features has as many. A block may also write
// the columns behind its run, which later runs and gaps overwrite.
template <class T>
inline void pack_run(const T* __restrict row, int64_t pixels, const PanelRun& run, float* __restrict columns) {
  constexpr int64_t block = kPanelSlack;
  const T* from = row + run.pixel;
  float* to = columns + run.column;
  int64_t i = 0;
  for (; i < run.length && run.pixel + i + block <= pixels; i += block) {
    for (int64_t j = 0; j < block; ++j) to[i + j] = to_float(from[i + j]);
  }
  for (; i < run.length; ++i) to[i] = to_float(from[i]);
}

// Fills a panel (channels, kPanelColumns), and slack behind it, from runs in the order of their columns. `gaps` are the
// columns up to the last one that no run fills. They become 0.
inline void pack_panel(const DotSource& source, int64_t image, const PanelRun* runs, int64_t num_runs,
                       const PanelRun* gaps, int64_t num_gaps, float* panel) {
  for_float_type(source.features_dtype, [&](auto type) {
    const auto* features = static_cast<const decltype(type)*>(source.features) + image * source.image_stride;
    if (source.pixel_stride == 1) {
      for (int64_t c = 0; c < source.channels; ++c) {
        float* columns = panel + c * kPanelColumns;
        for (int64_t r = 0; r < num_runs; ++r)
          pack_run(features + c * source.channel_stride, source.pixels, runs[r], columns);
        for (int64_t g = 0; g < num_gaps; ++g) std::fill_n(columns + gaps[g].column, gaps[g].length, 0.0f);
      }
      return;
    }
    for (int64_t r = 0; r < num_runs; ++r) {  // channels last: a pixel's channels lie side by side
      for (int64_t i = 0; i < runs[r].length; ++i) {
        const auto* from = features + (runs[r].pixel + i) * source.pixel_stride;
        float* to = panel + runs[r].column + i;
        for (int64_t c = 0; c < source.channels; ++c) to[c * kPanelColumns] = to_float(from[c * source.channel_stride]);
      }
    }
    for (int64_t c = 0; c < source.channels; ++c) {
      for (int64_t g = 0; g < num_gaps; ++g)
        std::fill_n(panel + c * kPanelColumns + gaps[g].column, gaps[g].length, 0.0f);
    }
  });
}

// Computes the logits of a block of queries and of the panel's first `columns` pixels, rounded up to whole vectors.
// `block` is (kDotRows, kPanelColumns). 4 x 3 vectors of sums are enough to keep both multipliers of a core busy.
inline void dot_block(const float* __restrict embed, const float* __restrict panel, int64_t depth, int64_t columns,
                      float* __restrict block) {
  for (int64_t column = 0; column < columns; column += kDotVecs * kLanes) {
    FloatVec sum[kDotRows][kDotVecs]{};
    for (int64_t c = 0; c < depth; ++c) {
      const float* features = panel + c * kPanelColumns + column;
      FloatVec feature[kDotVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kDotVecs; ++v) feature[v] = load<FloatVec>(features + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kDotRows; ++r) {
        const FloatVec weight = broadcast(embed[c * kDotRows + r]);
#pragma GCC unroll 4
        for (int v = 0; v < kDotVecs; ++v) sum[r][v] += weight * feature[v];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kDotRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kDotVecs; ++v) store(block + r * kPanelColumns + column + v * kLanes, sum[r][v]);
    }
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
