// Mask logits on a GPU: what the launcher takes. Torch-free.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "mask_dot/activation.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct MaskDotCudaParams {
  const void* embed;     // (layers, images, queries, channels) of dtype, layers layer_stride elements apart
  const void* features;  // (images, channels, pixels) of dtype, with the strides below
  DType dtype;
  int64_t layers, images, queries, channels, pixels;
  int64_t layer_stride, image_stride, channel_stride, pixel_stride;  // in elements; one of the last two is 1
  bool allow_tf32;                                                   // of float32 products
  MaskDotActivation activation;
  void* out;  // (layers, images, queries, pixels) of out_dtype, contiguous
  DType out_dtype;
};

void mask_dot_cuda(const MaskDotCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
