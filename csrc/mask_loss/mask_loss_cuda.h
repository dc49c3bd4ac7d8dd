// Focal and dice loss of mask logits on a GPU: what the launchers take. Torch-free.
//
// A block sweeps the target rows of a strip of logits, and a chunk of their columns. A thread evaluates up to four
// pixels of one cell per target row. What they add to the maps stays in its registers until the row of logits ends.
// Then each column takes what belongs to it from three cells. The row that a strip shares with the next is added later.
#pragma once

#include <cstdint>

#include "mask_loss/cuda_cells.h"
#include "mask_loss/mask_loss.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// What a block sums over its pixels. q measures how wrong the probability is, as in MaskLossSums.
enum MaskLossSum {
  kSumFocal,
  kSumWrong,        // q
  kSumWrongInside,  // (1 - s) t
  kSumInside,       // t
  kSumPixels,       // those that count
  kMaskLossSums,
};

struct MaskLossCudaParams {
  static constexpr int kMostStripRows = 16;

  const void* logits;  // (masks, height, width), the last dimension contiguous
  DType logits_dtype;
  int64_t logits_mask_stride, logits_row_stride;  // in elements
  int masks, height, width;

  const void* targets;  // (planes, target_height, target_width), the last dimension contiguous
  bool is_map;          // a segment map: int16, or int32 where wide; else target_dtype
  bool wide;
  DType target_dtype;                                // uint8 (nonzero is inside) or floating, between 0 and 1
  int64_t target_image_stride, target_plane_stride;  // in elements, from image to image and from segment to segment
  int64_t target_row_stride;
  int target_height, target_width;
  const int64_t* image_index;    // (masks,), or null: mask i has plane i of image 0
  const int64_t* segment_index;  // (masks,), or null likewise
  const int64_t* num_segments;   // (images,), or null likewise
  int64_t images, segments;      // segments: planes per image, where the targets are masks
  bool ignore_void;
  const uint8_t* void_pixels;  // (images, target_height, target_width) contiguous, or null

  int strip_rows;         // rows of logits of a block, kMostStripRows or fewer
  MaskLossChunks chunks;  // columns of logits of a block
  bool aligned;           // groups are whole, and begin at multiples of their size

  float row_unit, column_unit;  // 1 / (2 * target_height), 1 / (2 * target_width)
  float alpha_inside, alpha_outside, gamma;

  double* sums;  // (masks, strips, chunks, kMaskLossSums) workspace
  float* edges;  // (masks, strips, 3, width) workspace: a strip's part of the row behind it; null without gradient
  float* maps;   // (masks, 3, height, width) out, or null without gradient
  float* focal;  // (masks,) out
  float* dice;   // (masks,) out
  float* coefficients;  // (masks, 3) out

  constexpr int strips() const { return (height + strip_rows - 1) / strip_rows; }
};

void mask_loss_fwd_cuda(const MaskLossCudaParams& params, CUstream_st* stream);

// The last part of mask_loss_fwd_cuda: it combines the sums and the maps of a mask's blocks.
void mask_loss_finish_cuda(const MaskLossCudaParams& params, CUstream_st* stream);

// All masks. All pointers are to device memory.
void mask_loss_bwd_cuda(const MaskLossGradParams& params, int64_t masks, CUstream_st* stream);

}  // namespace maskformer_ext
