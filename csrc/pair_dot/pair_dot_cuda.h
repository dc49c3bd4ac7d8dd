// Mask logits of matched queries on a GPU, and their gradients: what the launchers take. Torch-free.
//
// Pairs lie sorted by image. Those of an image are the rows of one product. The device finds where an image's rows
// begin, so nothing waits. Blocks share out the tiles that have rows.
#pragma once

#include <cstdint>

#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct PairDotCudaParams {
  const void* embed;     // (pairs, layers, channels) of dtype
  const void* features;  // (images, channels, pixels) of dtype, with the strides below
  DType dtype;
  const int64_t* image_index;  // (pairs,) ascending, then -1; otherwise results are unspecified
  int64_t pairs, layers, images, channels, pixels;
  int64_t image_stride, channel_stride, pixel_stride;  // in elements; one of the last two is 1
  bool allow_tf32;                                     // of float32 products
  int* begin;                                          // (images + 2,) workspace: the first pair of each image
  int* tile_begin;                                     // (images + 2,) workspace: the first tile of each image's rows

  void* logits;  // (pairs, layers, pixels) of dtype, out of pair_dot_fwd_cuda

  const void* grad;     // (pairs, layers, pixels) of dtype
  void* grad_embed;     // (pairs, layers, channels) of dtype, out
  void* grad_features;  // (images, channels, pixels) of dtype, with the strides below, out
  int64_t grad_image_stride, grad_channel_stride, grad_pixel_stride;
  float* partial;       // (parts, pairs, layers, channels) workspace: sums over a part of the pixels each
  int64_t part_pixels;  // of a part, from pair_dot_part_pixels

  constexpr int64_t rows() const { return pairs * layers; }
  constexpr int64_t parts() const { return (pixels + part_pixels - 1) / part_pixels; }
};

// How many pixels a part has when sums over pixels are cut so that they fill a GPU.
int64_t pair_dot_part_pixels(const PairDotCudaParams& params);

void pair_dot_fwd_cuda(const PairDotCudaParams& params, CUstream_st* stream);
void pair_dot_bwd_cuda(const PairDotCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
