// Binary masks of queries on a GPU: what the launcher takes. Torch-free.
//
// A block takes kRows output rows of one query. A warp takes 32 neighbouring columns. A vote of its lanes is then the
// row's next four bytes.
#pragma once

#include "common/mask_source_cuda.h"
#include "instance_inference/instance_inference.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct InstanceCudaParams {
  static constexpr int kThreads = 256, kRows = 8;

  CudaMasks masks;      // all queries, at the output
  float threshold;      // a logit above this is inside
  int row_bytes;        // ceil(W / 8)
  uint8_t* bits;        // (count, H, row_bytes) out: eight pixels per byte, the lowest bit leftmost
  InstancePart* parts;  // (count, strips) workspace
  float* mean;          // (count,) out: mean probability inside
  float* boxes;         // (count, 4) out

  constexpr int strips() const { return (masks.out_height + kRows - 1) / kRows; }
};

void instance_masks_cuda(const InstanceCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
