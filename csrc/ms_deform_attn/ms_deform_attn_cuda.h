// Multi-scale deformable attention on a GPU: the contract of the launchers.
#pragma once

#include <cstdint>

#include "ms_deform_attn/ms_deform_attn.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct MsDeformAttnCudaParams {
  static constexpr int kMostLevels = 64;  // as in maskformer_ext/ops/ms_deform_attn.py

  struct Level {
    int height, width;
    int first_cell;   // of value
    int first_point;  // of a query
  };

  MsDeformAttnParams op;  // with pointers to device memory; sizes and points lie in host memory and are not for kernels
  Level levels[kMostLevels];

  // Workspace of backward. A sum of floats would depend on the order of its terms. These are sums of integers: terms
  // are multiplied by a power of two that the largest factors of the image and head allow.
  unsigned long long* sums;  // (B, S, H, D) zeros; null: no gradient of the values
  unsigned* not_finite;      // a bit per sum, zeros: whether a term was infinite or NaN
  unsigned* largest;         // (units, 2) zeros: bits of the largest finite |grad| and |weight|
  bool to_points;            // whether the gradients of locations and weights are asked for

  int64_t value_elements;  // B * S * H * D
  int64_t items;           // B * Q * H
};

void ms_deform_attn_fwd_cuda(const MsDeformAttnCudaParams& params, CUstream_st* stream);
void ms_deform_attn_bwd_cuda(const MsDeformAttnCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
