// Focal and dice loss of mask logits, resized to the targets on the way: the contract of the kernels, torch-free.
//
// One sweep over the target pixels gives the sums below per mask, and three maps of the size of the logits. Once the
// sums are known, the gradient is a linear combination of the maps. Nothing is stored at the size of the targets.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"
#include "common/resize_taps.h"

namespace maskformer_ext {

enum class TargetKind : int32_t {
  flags,    // uint8 or bool, nonzero is inside
  values,   // float32, bfloat16 or float16, between 0 and 1
  map_i16,  // int16 segment map: inside where it equals the mask's segment; negative is void
  map_i32,  // the same in int32
};

// Sums over the pixels that count in a block of target rows. q = s + t - 2 s t measures how wrong the probability is.
struct MaskLossSums {
  double focal;
  double wrong;         // sum q
  double wrong_inside;  // sum (1 - s) t
  double inside;        // sum t
  double pixels;        // how many pixels count
};

struct MaskLossParams {
  const void* logits;  // (N, h, w), the last dimension contiguous
  DType logits_dtype;
  int64_t logits_mask_stride, logits_row_stride;  // in elements
  int64_t masks, height, width;                   // N, h, w

  const void* targets;  // (planes, H, W), the last dimension contiguous
  TargetKind target_kind;
  DType target_dtype;                              // where target_kind is values
  int64_t target_plane_stride, target_row_stride;  // in elements
  int64_t target_height, target_width;             // H, W
  const int64_t* plane;                            // (N,) plane of each mask's target; -1: the mask is left out
  const int64_t* segment;                          // (N,) the mask's id in a segment map; unused for other kinds
  bool ignore_void;                                // leave negative ids of a segment map out
  const uint8_t* void_pixels;                      // (images, H, W) contiguous, nonzero is left out, or null
  const int64_t* void_plane;                       // (N,) the image of each mask in void_pixels

  float alpha_inside, alpha_outside;  // weights in the focal loss
  float gamma;

  const ResizeCells* columns;  // from w to W
  int64_t blocks;              // blocks of target rows per mask

  MaskLossSums* sums;  // (N, blocks) scratch
  float* edges;        // (N, blocks, 3, 2, w) scratch: rows that an earlier block owns; null without gradient
  float* maps;   // (N, 3, h, w) out: transposed resize of dfocal/dv, s (1 - s) t, s (1 - s); null without gradient
  float* focal;  // (N,) out
  float* dice;   // (N,) out
  float* coefficients;  // (N, 3) out: d(focal)/d(maps[0]), d(dice)/d(maps[1]), d(dice)/d(maps[2])
};

struct MaskLossGradParams {
  const float* maps;          // (N, 3, pixels)
  const float* coefficients;  // (N, 3)
  const float* grad_focal;    // (N,) or null for zero
  const float* grad_dice;     // (N,) or null for zero
  int64_t pixels;             // h * w
  DType dtype;
  void* grad_logits;  // (N, pixels) out
};

// Sweeps items [begin, end) of the N * blocks. Item i is block i / N of mask i % N.
MASKFORMER_EXT_CPU_KERNEL(mask_loss_fwd, const MaskLossParams& params, int64_t begin, int64_t end);
// Combines the blocks of masks [begin, end), after all items were swept.
MASKFORMER_EXT_CPU_KERNEL(mask_loss_finish, const MaskLossParams& params, int64_t begin, int64_t end);
// Forms the gradient of masks [begin, end).
MASKFORMER_EXT_CPU_KERNEL(mask_loss_bwd, const MaskLossGradParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
