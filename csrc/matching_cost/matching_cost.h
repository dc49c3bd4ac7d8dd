// Cost of assigning each query to each segment, straight from the logits: class, focal and dice terms. Torch-free.
//
// Targets are prepared once per image, for all layers and queries. Every pixel at (h, w) belongs to one group. That is
// its segment or, where masks may overlap, the set of masks that hold it. Sums over groups give the sums over segments.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

// Rows are copied in blocks of this many floats. Every group of pixels is padded to a multiple of it.
inline constexpr int64_t kMatchingCostLanes = 16;
// Pixels whose terms are kept at once where masks overlap in many ways.
inline constexpr int64_t kMatchingCostTile = 1024;

// The pixels of one image, to be put in order.
struct PixelOrderParams {
  const void* segment_map;  // (target_height, target_width) int16 or int32: the group of each pixel; negative: void
  bool wide;                // segment_map is int32
  bool ignore_void;         // leave void pixels out; otherwise they are one more group, the last
  int64_t target_height, target_width;
  int64_t height, width;
  int64_t num_segments;
  int32_t* scratch;  // (2 * height * width + 1 + height + width,)
};

// The pixels of one image at (h, w), as runs sorted by group.
struct PixelOrder {
  int64_t num_groups;  // num_segments + 1
  int64_t num_runs;
  int64_t counted;       // pixels that count: h * w, less those left out
  int32_t* source;       // (h * w,) first pixel of each run
  int32_t* destination;  // (h * w,) its place among the sorted pixels
  int32_t* length;       // (h * w,)
  int64_t* begin;        // (num_groups + 1,) first place of each group, a multiple of the lanes
  int64_t* area;         // (num_groups,) pixels of each group
  float* weight;         // (h * w rounded up + num_groups * lanes,) 1 for a pixel, 0 for padding
};

// Sorts the pixels by group.
MASKFORMER_EXT_CPU_KERNEL(order_pixels, const PixelOrderParams& params, PixelOrder& order);

// Masks of one image, which may overlap.
struct MaskGroupParams {
  const uint8_t* masks;     // (num_segments, target_height, target_width), non-zero: inside
  const uint8_t* excluded;  // (target_height, target_width), non-zero: the pixel is left out; null: none is
  int64_t target_height, target_width;
  int64_t height, width;
  int64_t num_segments;
  int64_t max_groups;  // at least 1
  int32_t* scratch;    // (height + width + 3 * max_groups,)
};

// Which pixels are in the same masks.
struct MaskGroups {
  int64_t num_groups;  // -1: more than max_groups
  int32_t* group;      // (height, width), -1: left out
  uint8_t* member;     // (max_groups, num_segments) 1: the group lies inside the mask
};

// Finds the groups of pixels that lie in the same masks.
MASKFORMER_EXT_CPU_KERNEL(group_pixels_by_masks, const MaskGroupParams& params, MaskGroups& groups);

// Reduces masks to (h, w) and writes them in the order of the sorted pixels, as (num_segments, stride) zeros and ones.
// Also writes their areas.
MASKFORMER_EXT_CPU_KERNEL(order_masks, const MaskGroupParams& params, const PixelOrder& order, int64_t stride,
                          uint8_t* sorted_masks, int64_t* area);

// One image's targets. Where they are masks, either `member` or `sorted_masks` is set; for a segment map neither is.
struct ImageTargets {
  PixelOrder order;
  const int64_t* area;          // (num_segments,)
  const uint8_t* member;        // (num_segments, num_groups) 1: the group lies inside the mask
  const uint8_t* sorted_masks;  // (num_segments, stride), where masks overlap in too many ways; then there is one group
  int64_t stride;
};

struct MatchingCostParams {
  const void* class_logits;  // (rows, classes + 1) of class_dtype
  DType class_dtype;
  const void* mask_logits;  // (rows, pixels) of mask_dtype, from row first_row on
  DType mask_dtype;
  int64_t first_row;
  const int64_t* labels;        // (images, segments)
  const int64_t* num_segments;  // (images,)
  const ImageTargets* targets;  // (images,)
  int64_t images, queries;      // row = (layer * images + image) * queries + query
  int64_t classes, segments, pixels;
  float class_weight, focal_weight, dice_weight;
  float alpha, gamma;
  float* cost;  // (rows, segments)
};

// Working memory of one thread. `sorted` is finite on entry.
struct MatchingCostScratch {
  float* row;          // (pixels + lanes,)
  float* sorted;       // (largest begin[num_groups] + lanes,)
  float* probability;  // (classes + 1,)
  double* focal;       // (segments,)
  double* wrong;       // (segments,) the sum of 1 - s inside and of s outside, with s = sigmoid(logit)
  double* positive;    // (largest num_groups,), and so the next three
  double* negative;
  double* foreground;
  double* background;
  float* tiles;  // (4, tile)
};

// Writes the costs of rows [begin, end). Each row's result depends on that row alone.
MASKFORMER_EXT_CPU_KERNEL(matching_cost_fwd, const MatchingCostParams& params, const MatchingCostScratch& scratch,
                          int64_t begin, int64_t end);

}  // namespace maskformer_ext
