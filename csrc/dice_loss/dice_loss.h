// Dice loss of each mask: the contract of the kernels, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// Sums over a block of pixels. q = s + t - 2 s t measures how wrong the probability is.
struct DiceSums {
  double wrong;         // sum q
  double wrong_inside;  // sum (1 - s) t
  double inside;        // sum t
};

struct DiceLossParams {
  static constexpr int64_t kBlock = 16384;     // pixels whose sums are formed on their own
  static constexpr int64_t kCudaBlock = 8192;  // the same on a GPU

  const void* logits;  // (N, pixels) contiguous
  DType logits_dtype;
  const void* targets;  // (N, pixels) contiguous
  DType targets_dtype;
  int64_t masks, pixels, blocks;  // blocks: of kBlock, on a GPU of kCudaBlock, pixels in a mask

  DiceSums* sums;       // (N, blocks) scratch
  float* loss;          // (N,) out
  float* coefficients;  // (N, 2) out of fwd, in of bwd: factors of s (1 - s) t and s (1 - s) in the gradient

  const float* grad;  // (N,)
  void* grad_logits;  // (N, pixels) out, of logits_dtype
};

// Forms the sums of items [begin, end) of the N * blocks.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_fwd, const DiceLossParams& params, int64_t begin, int64_t end);
// Forms loss and coefficients of masks [begin, end), after all sums.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_finish, const DiceLossParams& params, int64_t begin, int64_t end);
// Writes grad_logits of items [begin, end) of the N * blocks.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_bwd, const DiceLossParams& params, int64_t begin, int64_t end);

// The same on a GPU, for all masks: the first writes loss and coefficients, the second grad_logits.
void dice_loss_fwd_cuda(const DiceLossParams& params, CUstream_st* stream);
void dice_loss_bwd_cuda(const DiceLossParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
