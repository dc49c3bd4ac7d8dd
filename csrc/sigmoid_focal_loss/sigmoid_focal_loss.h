// Elementwise sigmoid focal loss: the contract of the kernels, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct SigmoidFocalLossParams {
  static constexpr int64_t kBlock = 16384;  // elements whose sum is formed on its own

  const void* logits;  // (numel,) contiguous
  DType logits_dtype;
  const void* targets;  // (numel,) contiguous, between 0 and 1
  DType targets_dtype;
  int64_t numel;
  float alpha_inside, alpha_outside, gamma;

  void* loss;          // (numel,) out, of logits_dtype, or null
  double* block_sums;  // (blocks,) out, or null

  const void* grad;  // (numel,) contiguous, or one element for all
  DType grad_dtype;
  bool grad_is_scalar;
  void* grad_logits;  // (numel,) out, of logits_dtype
};

// Writes the loss of each element, or the sum of each block, for blocks [begin, end) of kBlock elements.
MASKFORMER_EXT_CPU_KERNEL(sigmoid_focal_loss_fwd, const SigmoidFocalLossParams& params, int64_t begin, int64_t end);
// Writes grad_logits of blocks [begin, end).
MASKFORMER_EXT_CPU_KERNEL(sigmoid_focal_loss_bwd, const SigmoidFocalLossParams& params, int64_t begin, int64_t end);

// The same on a GPU, for all blocks. `reduced` becomes the sum of block_sums (device memory) over `divisor`, unless
// null.
void sigmoid_focal_loss_fwd_cuda(const SigmoidFocalLossParams& params, float* reduced, double divisor,
                                 CUstream_st* stream);
// Here grad must be of logits_dtype, or float32 where it is one element for all.
void sigmoid_focal_loss_bwd_cuda(const SigmoidFocalLossParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
