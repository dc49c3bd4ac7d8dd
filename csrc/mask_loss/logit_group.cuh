// Logits of mask_loss on a GPU at a thread's pixels, and back: what the pixels add to the columns of logits.
#pragma once

#include "mask_loss/target_group.cuh"

namespace maskformer_ext::cuda {

// A weighted mean of two neighbours. 0 times an infinite one would be NaN where nothing is resized.
__device__ __forceinline__ float blend(float lower, float upper, float upper_weight) {
  const float part = (1.0f - upper_weight) * lower;
  return upper_weight != 0.0f ? part + upper_weight * upper : part;
}

// A thread's cell, and where its pixels lie beside the cell's sample: negative towards the sample before. The distance
// is the weight of that neighbour, and zero beyond the first and the last sample.
struct GroupTaps {
  unsigned previous, sample, next;
  float distance[kMaskLossGroup];
};

// `x` is the first pixel.
__device__ __forceinline__ GroupTaps group_taps(const MaskLossCudaParams& p, int cell, int x) {
  GroupTaps taps;
  taps.previous = static_cast<unsigned>(max(cell - 1, 0));
  taps.sample = static_cast<unsigned>(cell);
  taps.next = static_cast<unsigned>(min(cell + 1, p.width - 1));
  for (int k = 0; k < kMaskLossGroup; ++k) {
    // in units of 1 / (2 * target_width)
    const int offset = (2 * (x + k) + 1) * p.width - p.target_width - 2 * p.target_width * cell;
    const bool clamped = offset < 0 ? cell == 0 : cell == p.width - 1;
    taps.distance[k] = clamped ? 0.0f : static_cast<float>(offset) * p.column_unit;
  }
  return taps;
}

template <class Logit>
__device__ __forceinline__ void resize_row(const void* logits, int64_t from, const GroupTaps& taps,
                                           float (&to)[kMaskLossGroup]) {
  const Logit* row = base_of(static_cast<const Logit*>(logits) + from);
  const float previous = as_float(row[taps.previous]), sample = as_float(row[taps.sample]);
  const float next = as_float(row[taps.next]);
  for (int k = 0; k < kMaskLossGroup; ++k) {
    const float distance = taps.distance[k];
    to[k] = (1.0f - fabsf(distance)) * sample;
    if (distance < 0.0f) to[k] -= distance * previous;
    if (distance > 0.0f) to[k] += distance * next;
  }
}

// A row of logits at the thread's pixels. `from` is the offset of the row.
__device__ __forceinline__ void resize_row(const MaskLossCudaParams& p, int64_t from, const GroupTaps& taps,
                                           float (&to)[kMaskLossGroup]) {
  if (p.logits_dtype == DType::float32) {
    resize_row<float>(p.logits, from, taps, to);
  } else if (p.logits_dtype == DType::bfloat16) {
    resize_row<__nv_bfloat16>(p.logits, from, taps, to);
  } else {
    resize_row<__half>(p.logits, from, taps, to);
  }
}

// What a group adds to one column of the three maps.
struct alignas(16) CellPart {
  float maps[3];
};

// What it adds to the column before its cell, to the cell's own, and to the one behind. A gradient may be infinite, so
// it is left out where its weight is zero.
__device__ __forceinline__ void cell_parts(const GroupTaps& taps, const float (&grads)[3][kMaskLossGroup],
                                           CellPart& before, CellPart& centre, CellPart& after) {
  before = centre = after = {};
  for (int k = 0; k < kMaskLossGroup; ++k) {
    const float distance = taps.distance[k], centre_weight = 1.0f - fabsf(distance);
    for (int map = 0; map < 3; ++map) {
      centre.maps[map] += centre_weight * grads[map][k];
      if (distance < 0.0f) before.maps[map] -= distance * grads[map][k];
      if (distance > 0.0f) after.maps[map] += distance * grads[map][k];
    }
  }
}

}  // namespace maskformer_ext::cuda
