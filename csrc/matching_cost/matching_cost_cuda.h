// Matching cost on a GPU: what the launchers take. Torch-free.
//
// Once per image, a segment map is reduced to (h, w), and its pixels are listed segment by segment. Lists are cut into
// items of at most kItemPixels. For one or two queries, a block's warps share out the items. Masks may overlap: they
// are packed to bits instead, one word per pixel for kMasksOfWord masks. Every pixel is added to the sums of each mask.
#pragma once

#include <cstdint>

#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct MatchingCostCudaParams {
  static constexpr int kItemPixels = 1024;
  static constexpr int kMostQueries = 2;  // of a block at a time
  static constexpr int kSums = 4;         // of a query over the pixels of an item
  static constexpr int kMasksOfWord = 24;
  static constexpr uint32_t kCounts = uint32_t{1} << 31;  // in the word of a pixel that counts

  const void* class_logits;  // (layers, images, queries, classes + 1) of class_dtype
  DType class_dtype;
  const void* mask_logits;  // (rows, pixels) of mask_dtype; row = (layer * chunk_images + image) * queries + query
  DType mask_dtype;
  const int64_t* labels;        // (images, segments)
  const int64_t* num_segments;  // (images,)
  int64_t images, queries, classes, segments;
  int64_t rows, chunk_images;        // the rows whose mask logits are given: all, or some layers and images,
  int64_t first_layer, first_image;  // which begin with these
  int height, width, target_height, target_width;
  bool ignore_void;
  float class_weight, focal_weight, dice_weight, alpha, gamma;
  float* cost;      // (layers, images, queries, segments)
  int* group_area;  // (images, segments + 1) workspace; the last is that of void, 0 where it does not count
  int* counted;     // (images,) workspace: how many pixels count

  // For a segment map.
  const void* segment_map;  // (images, target_height, target_width) int16 or int32
  bool wide;                // int32
  int* owner;               // (images, pixels) workspace: group; `segments` for void; -1 where it does not count
  int* order;               // (images, pixels) workspace: pixels, group by group
  int* item;                // (images, max_items, 2) workspace: first and last + 1 place in order
  int* first_item;          // (images, segments + 2) workspace: of each group; then how many there are
  int max_items;

  // For masks.
  const uint8_t* masks;     // (images, segments, target_height, target_width), non-zero: inside; null for a map
  const uint8_t* void_map;  // (images, target_height, target_width), or null
  uint32_t* bits;           // (images, words, pixels) workspace: bit t of word w is mask w * kMasksOfWord + t at (h, w)
  int words;                // segments / kMasksOfWord, rounded up

  int blocks;    // how many blocks work on rows, at most
  double* sums;  // (blocks, sums_stride) workspace, for a segment map: of items, then of groups
  int64_t sums_stride;
  constexpr int64_t pixels() const { return static_cast<int64_t>(height) * width; }
};

// Prepares the targets of all images in the workspace.
void matching_cost_targets_cuda(const MatchingCostCudaParams& params, CUstream_st* stream);
// Writes the costs of the rows whose mask logits are given.
void matching_cost_rows_cuda(const MatchingCostCudaParams& params, CUstream_st* stream);
// The same where targets are masks; the function above calls it.
void matching_cost_masks_cuda(const MatchingCostCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
