// Dice loss of each mask: contract of the kernels, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// Sums over a block of pixels; q = how wrong the probability is: s + t - 2 s t.
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
  float* coefficients;  // (N, 2) out of fwd, in of bwd: the factors of s (1 - s) t and of s (1 - s) in the gradient

  const float* grad;  // (N,)
  void* grad_logits;  // (N, pixels) out, of logits_dtype
};

// Items [begin, end) of the N * blocks: the sums.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_fwd, const DiceLossParams& params, int64_t begin, int64_t end);
// Masks [begin, end): loss and coefficients, after all sums.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_finish, const DiceLossParams& params, int64_t begin, int64_t end);
// Items [begin, end) of the N * blocks: grad_logits.
MASKFORMER_EXT_CPU_KERNEL(dice_loss_bwd, const DiceLossParams& params, int64_t begin, int64_t end);

// The same on a GPU, everything: loss and coefficients; grad_logits.
void dice_loss_fwd_cuda(const DiceLossParams& params, CUstream_st* stream);
void dice_loss_bwd_cuda(const DiceLossParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
