// The point matching cost straight from embeddings. Features are sampled at a tile of points and multiplied with all
// queries of a layer. The logits are reduced to sums at once. Torch-free.
//
// The features of an image are laid out pixel by pixel, so that a tap is a run of channels. Queries lie side by side in
// the packed embeddings, as the sums need them.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "point_matching_cost/point_matching_cost.h"

namespace maskformer_ext {

inline constexpr int64_t kChunkTiles = 64;  // tiles whose sums are one item's

// Features (channels, pixels) of one image, with strides in elements.
struct FeatureLinesParams {
  const void* features;
  DType dtype;
  int64_t channel_stride, pixel_stride;
  int64_t channels, pixels;
  float* lines;  // (pixels + 1, stride) out: the channels of each pixel, 0 beyond the last pixel and channel
  int64_t stride;
};

// Writes the lines of pixels [begin, end).
MASKFORMER_EXT_CPU_KERNEL(lay_feature_lines, const FeatureLinesParams& params, int64_t begin, int64_t end);

// Some layers of one image.
struct PointEmbeddingsParams {
  PointCostParams cost;
  const void* embed;  // (layers, images, queries, channels) of embed_dtype
  DType embed_dtype;
  int64_t channels;
  const float* lines;  // of the image
  int64_t line_stride;
  int64_t image, first_layer;
  const PointTargets* targets;  // of the layers from first_layer on
  int64_t chunks;               // of every layer
  float* packed;                // (layers, channels * padded()), in blocks of some vectors of queries
  double* sums;                 // (layers, chunks, sums_rows, padded())
  int64_t sums_rows;
  uint8_t* wrong;  // (layers, chunks, padded()) 1: a logit of this query is not finite
  constexpr int64_t padded() const { return (cost.queries + kQueryBlock - 1) / kQueryBlock * kQueryBlock; }
};

// Packs the embeddings of layers [begin, end), counted from the first.
MASKFORMER_EXT_CPU_KERNEL(pack_queries, const PointEmbeddingsParams& params, int64_t begin, int64_t end);

// Reduces chunks [begin, end) of (layers, chunks). `features` holds (kPointTile, line_stride) floats, `logits`
// (kPointTile, padded()).
MASKFORMER_EXT_CPU_KERNEL(point_embeddings_sums, const PointEmbeddingsParams& params, float* features, float* logits,
                          int64_t begin, int64_t end);

// Adds up the chunks of layers [begin, end) in order and writes the costs. `probability` holds classes + 1 floats.
MASKFORMER_EXT_CPU_KERNEL(point_embeddings_costs, const PointEmbeddingsParams& params, float* probability,
                          int64_t begin, int64_t end);

}  // namespace maskformer_ext
