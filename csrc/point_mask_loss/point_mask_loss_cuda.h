// Loss of masks at points on a GPU: what the launchers take. Torch-free.
//
// The backward adds in integers. Sums of integers do not depend on the order of the threads. A first kernel finds the
// gradient at each point and the largest of a mask. A second one adds up multiples of a unit so small that the sum of
// all points just fits into 63 bits. A gradient that is not finite cannot be such a multiple; its pixels become NaN.
#pragma once

#include <cstdint>

#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

enum PointMaskLossSum { kPointLoss, kPointWrong, kPointMissing, kPointInside, kPointSums };

// All pointers are to device memory.
struct PointMaskLossCudaParams {
  static constexpr int kThreads = 256, kPointsPerBlock = 2048;

  const void* logits;  // (masks, height, width), the last dimension contiguous
  DType logits_dtype;
  int64_t mask_stride, row_stride;  // in elements
  int64_t masks, height, width;

  const void* targets;  // the last dimension contiguous
  bool is_map;          // a segment map (images, H, W): int16, or int32 where wide; else masks (images, segments, H, W)
  bool wide;
  DType target_dtype;                                                   // uint8 (nonzero is inside) or floating
  int64_t target_image_stride, target_plane_stride, target_row_stride;  // in elements
  int64_t target_height, target_width;
  int64_t images, segments;      // segments: planes per image, where the targets are masks
  const int64_t* image_index;    // (masks,)
  const int64_t* segment_index;  // (masks,)
  const int64_t* num_segments;   // (images,)

  const float* points;  // (masks, num_points, 2)
  int64_t num_points;   // at least 1
  bool nearest;         // targets are sampled at the nearest pixel

  double* sums;          // (masks, blocks(), kPointSums) workspace
  float* cross_entropy;  // (masks,) out
  float* dice;           // (masks,) out
  float* coefficients;   // (masks, 3) out

  constexpr int64_t blocks() const { return (num_points + kPointsPerBlock - 1) / kPointsPerBlock; }
};

struct PointMaskLossGradCudaParams {
  PointMaskLossCudaParams forward;  // without its workspace and results
  const float* coefficients;        // (masks, 3)
  const float* grad_cross_entropy;  // (masks,) or null for zero
  const float* grad_dice;           // (masks,) or null for zero
  float* at_points;                 // (masks, num_points) workspace
  int32_t* largest;                 // (masks,) workspace, 0 at first: the bits of the largest finite |gradient|
  int64_t* multiples;               // (masks, height, width) workspace, 0 at first
  unsigned* not_finite;             // a bit per logit, 0 at first: whether a term was infinite or NaN
  void* grad_logits;                // (masks, height, width) out, of logits_dtype
};

void point_mask_loss_fwd_cuda(const PointMaskLossCudaParams& params, CUstream_st* stream);
void point_mask_loss_bwd_cuda(const PointMaskLossGradCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
