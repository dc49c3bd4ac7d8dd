// Cost of assigning each query to each segment, over points that are sampled from masks. Torch-free.
//
// Every point is divided among the segments that its taps fall in, and what is left is void. The shares of a point add
// up to 1. A segment's outside is therefore the sum over all other groups, and nothing cancels. Queries lie side by
// side: a vector holds one point of as many queries.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

inline constexpr int64_t kPointTile = 32;   // points whose terms are kept at once
inline constexpr int64_t kQueryBlock = 16;  // queries are padded to a multiple of it, the widest vector

// A share of a point.
struct PointShare {
  int32_t point;  // in its tile
  float share;
};

// The shares of one group in a tile.
struct TileGroup {
  int32_t group;       // a segment, or num_segments: void
  int32_t begin, end;  // in the list of shares
};

// The groups that a point lies in and its shares. The first is void, unless there is only one.
struct PointOwners {
  int32_t group[5];
  float share[5];
  int32_t count;
};

// An image's points in one layer, as they are given.
struct PointTargetsParams {
  const float* points;  // (count, 2) x and y in [0, 1]
  const void* pixels;   // (target_height, target_width) int16 or int32, or (segments, ...) uint8
  bool wide;            // a segment map is int32
  bool from_masks;      // pixels are masks
  bool nearest;         // how targets are sampled
  int64_t count;
  int64_t num_segments;
  int64_t target_height, target_width;
  int64_t height, width;  // of the predictions
  int32_t* scratch;       // (4 * count + height + num_segments + 4,)
  PointOwners* owners;    // (count,) working memory, for a segment map
};

// The same points in the order of their groups, and what lies at each.
struct PointTargets {
  int64_t count;
  int32_t* tap;         // (tiles * kPointTile, 4) pixels of the predictions; height * width: outside
  float* tap_weight;    // (tiles * kPointTile, 4)
  int32_t* tile_begin;  // (tiles + 1,) first group of each tile, for a segment map
  TileGroup* groups;    // (4 * count,)
  PointShare* shares;   // (4 * count,)
  float* inside;        // (tiles, segments, kPointTile) the shares, for masks; null for a segment map
  double* area;         // (num_segments,) the sum of all shares
  constexpr int64_t tiles() const { return (count + kPointTile - 1) / kPointTile; }
};

// Orders points and finds their shares.
MASKFORMER_EXT_CPU_KERNEL(order_points, const PointTargetsParams& params, PointTargets& targets);

// What the costs of queries are made of, beside the masks.
struct PointCostParams {
  const void* class_logits;  // (layers, images, queries, classes + 1) of class_dtype
  DType class_dtype;
  const int64_t* labels;        // (images, segments)
  const int64_t* num_segments;  // (images,)
  int64_t layers, images, queries, classes, segments;
  float class_weight, mask_weight, dice_weight;
  float* cost;  // (layers, images, queries, segments)
};

// Sums of some queries. For a segment map they are (groups, 4, stride): positive, negative, foreground and background
// of each group. For masks they are (segments + 1, 2, stride): of each its cross-entropy and what is wrong, that is 1 -
// s inside and s outside. Last comes the whole foreground.
struct PointSums {
  double* sums;
  int64_t stride;  // queries, padded
};
constexpr int64_t point_sums_rows(bool from_masks, int64_t segments) { return (from_masks ? 2 : 4) * (segments + 1); }

struct PointMatchingCostParams {
  PointCostParams cost;
  const void* mask_logits;  // (layers, images, queries, pixels) of mask_dtype
  DType mask_dtype;
  int64_t pixels;
  const PointTargets* targets;  // (layers, images), from layer first_layer on
  int64_t first_layer;
  int64_t blocks() const { return (cost.queries + kQueryBlock - 1) / kQueryBlock; }
};

// Working memory of one thread.
struct PointMatchingCostScratch {
  float* planes;       // (pixels + 1, kQueryBlock)
  float* probability;  // (classes + 1,)
  double* sums;        // (point_sums_rows, kQueryBlock)
};

// Writes the costs of items [begin, end) of (layers, images, blocks()), counted from the first layer of the targets.
MASKFORMER_EXT_CPU_KERNEL(point_matching_cost_fwd, const PointMatchingCostParams& params,
                          const PointMatchingCostScratch& scratch, int64_t begin, int64_t end);

}  // namespace maskformer_ext
