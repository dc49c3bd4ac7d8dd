// Cross-entropy and dice loss of mask logits at points: the contract of the kernels, torch-free.
//
// Nothing is kept from the forward but the points and three numbers per mask. The backward samples logits and targets
// again, which costs less than writing and reading what it would need of them.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"
#include "mask_loss/mask_loss.h"

namespace maskformer_ext {

struct PointMaskLossParams {
  const void* logits;  // (N, h, w), the last dimension contiguous
  DType logits_dtype;
  int64_t mask_stride, row_stride;  // in elements
  int64_t masks, height, width;     // N, h, w

  const void* targets;  // planes of (H, W), the last dimension contiguous
  TargetKind target_kind;
  DType target_dtype;                   // where target_kind is values
  int64_t target_row_stride;            // in elements
  int64_t target_height, target_width;  // H, W
  const int64_t* plane;                 // (N,) the first element of each mask's target; -1: the mask is left out
  const int64_t* segment;               // (N,) the mask's id in a segment map; unused for other kinds

  const float* points;  // (N, P, 2) contiguous
  int64_t num_points;   // P, at least 1
  bool nearest;         // targets are sampled at the nearest pixel

  float* cross_entropy;  // (N,) out
  float* dice;           // (N,) out
  float*
      coefficients;  // (N, 3) out: the weight of a point's cross-entropy, and the factors of the dice loss's gradient
};

struct PointMaskLossGradParams {
  PointMaskLossParams forward;      // without its results
  const float* coefficients;        // (N, 3)
  const float* grad_cross_entropy;  // (N,) or null for zero
  const float* grad_dice;           // (N,) or null for zero
  void* grad_logits;                // (N, h, w) contiguous out, of logits_dtype
};

// Masks [begin, end).
MASKFORMER_EXT_CPU_KERNEL(point_mask_loss_fwd, const PointMaskLossParams& params, int64_t begin, int64_t end);
MASKFORMER_EXT_CPU_KERNEL(point_mask_loss_bwd, const PointMaskLossGradParams& params, int64_t begin, int64_t end);

}  // namespace maskformer_ext
