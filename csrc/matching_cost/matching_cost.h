// Cost of assigning each query to each segment, straight from the logits: class, focal and dice terms.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

// Rows are copied in blocks of this many floats, and every group of pixels is padded to a multiple of it.
inline constexpr int64_t kMatchingCostLanes = 16;
// Pixels whose terms are summed in float before the sum goes on in double.
inline constexpr int64_t kMatchingCostTile = 1024;

// One image's ground truth, and where its reduction to (h, w) goes.
struct PixelOrderParams {
  const void* segment_map;  // (H, W) int16 or int32; null: masks
  bool wide;                // segment_map is int32
  const uint8_t* masks;     // (num_segments, H, W); null: segment_map
  const uint8_t* void_map;  // (H, W), non-zero: left out (masks only); null: nothing is
  bool ignore_void;         // leave pixels of no segment out (segment_map only)
  int64_t target_height, target_width;
  int64_t height, width;
  int64_t num_segments;
};

// The pixels of one image at (h, w), as runs sorted by group. With a segment map, group g < num_segments is a segment
// and the last group is void; with masks there is one group, and the masks are kept in the same order.
struct PixelOrder {
  int64_t num_groups;
  int64_t num_runs;
  int64_t counted;       // pixels that count: h * w, less those left out
  int32_t* source;       // (h * w,) first pixel of each run
  int32_t* destination;  // (h * w,) its place among the sorted pixels
  int32_t* length;       // (h * w,)
  int64_t* begin;        // (num_groups + 1,) first place of each group, a multiple of the lanes
  int64_t* area;         // (max(num_groups, num_segments),) pixels of each group, or of each mask
  float* weight;         // (capacity,) 1 for a pixel, 0 for padding
  uint8_t* masks;        // (num_segments, capacity) 0 or 1; null: segment map
  int64_t capacity;      // places, at least h * w + num_groups * lanes
  int32_t* scratch;      // (2 * h * w + 1 + h + w,)
};

MASKFORMER_EXT_CPU_KERNEL(order_pixels, const PixelOrderParams& params, PixelOrder& order);

// The smallest and the largest of n segment ids; (0, -1) where n = 0.
MASKFORMER_EXT_CPU_KERNEL(segment_id_range, const void* segment_map, bool wide, int64_t n, int32_t* least,
                          int32_t* most);

struct MatchingCostParams {
  const void* class_logits;  // (rows, classes + 1) of class_dtype
  DType class_dtype;
  const void* mask_logits;  // (rows, pixels) of mask_dtype
  DType mask_dtype;
  const int64_t* labels;        // (images, segments)
  const int64_t* num_segments;  // (images,)
  const PixelOrder* orders;     // (images,)
  int64_t images, queries;      // row = (layer * images + image) * queries + query
  int64_t classes, segments, pixels;
  float class_weight, focal_weight, dice_weight;
  float alpha, gamma;
  float* cost;  // (rows, segments)
};

// Working memory of one thread.
struct MatchingCostScratch {
  float* row;            // (pixels + lanes,)
  float* sorted;         // (capacity + lanes,), finite on entry
  float* probability;    // (classes + 1,)
  double* focal;         // (max groups or segments,)
  double* inside;        // (max groups or segments,)
  double* outside;       // (max groups or segments,)
  float* positive_tile;  // (tile,) each
  float* negative_tile;
  float* foreground_tile;
};

// Costs of rows begin to end; each row's result depends on that row alone.
MASKFORMER_EXT_CPU_KERNEL(matching_cost_fwd, const MatchingCostParams& params, const MatchingCostScratch& scratch,
                          int64_t begin, int64_t end);

}  // namespace maskformer_ext
