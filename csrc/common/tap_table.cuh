// Reads resized values on a GPU, through the tables of taps of both axes.
#pragma once

#include <type_traits>

#include "common/cuda_base.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_types.cuh"
#include "common/mask_source_cuda.h"

namespace maskformer_ext::cuda {

// Where a pixel's samples lie in a plane, and their weights.
template <int kRowTaps, int kColumnTaps = kRowTaps>
struct PixelTaps {
  int row[kRowTaps];  // offset of the sample's row, in elements
  int column[kColumnTaps];
  float row_weight[kRowTaps];
  float column_weight[kColumnTaps];

  PixelTaps() = default;
  // Taps come by value: nvcc reads a struct that it copies in whole vectors.
  __device__ PixelTaps(AxisTaps row_taps, AxisTaps column_taps, int64_t row_stride) {
    const int stride = static_cast<int>(row_stride);
    for (int tap = 0; tap < kRowTaps; ++tap) {
      row[tap] = row_taps.index[tap] * stride;
      row_weight[tap] = row_taps.weight[tap];
    }
    for (int tap = 0; tap < kColumnTaps; ++tap) {
      column[tap] = column_taps.index[tap];
      column_weight[tap] = column_taps.weight[tap];
    }
  }

  // The taps of an axis come in no particular order where the result is mirrored.
  __device__ int first_row() const { return least(row); }
  __device__ int last_row() const { return most(row); }
  __device__ int first_column() const { return least(column); }
  __device__ int last_column() const { return most(column); }

  // The resized value, where sample(r, c) gives the sample of row tap r and column tap c. Rows are blended before
  // columns, as in the CPU's kernels, so that near ties fall alike.
  template <class Sample>
  __device__ __forceinline__ float value(const Sample& sample) const {
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < kColumnTaps; ++c) {
      float blended = row_weight[0] * sample(0, c);
#pragma unroll
      for (int r = 1; r < kRowTaps; ++r) blended += row_weight[r] * sample(r, c);
      sum = c == 0 ? column_weight[0] * blended : sum + column_weight[c] * blended;
    }
    return sum;
  }

  // The sample of row tap r and column tap c.
  template <class T>
  __device__ __forceinline__ float stored(const T* plane, int r, int c) const {
    return as_float(plane[static_cast<unsigned>(row[r] + column[c])]);  // without a sign, an instruction less
  }

  template <class T>
  __device__ __forceinline__ float logit(const T* plane) const {
    return value([&](int r, int c) { return stored(plane, r, c); });
  }

 private:
  template <int kCount>
  static __device__ int least(const int (&numbers)[kCount]) {
    int result = numbers[0];
    for (int i = 1; i < kCount; ++i) result = min(result, numbers[i]);
    return result;
  }
  template <int kCount>
  static __device__ int most(const int (&numbers)[kCount]) {
    int result = numbers[0];
    for (int i = 1; i < kCount; ++i) result = max(result, numbers[i]);
    return result;
  }
};

// The compiler would otherwise make some values anew in every iteration of a loop.
__device__ __forceinline__ void keep_in_register([[maybe_unused]] unsigned& value) {
#ifdef __CUDA_ARCH__
  asm("" : "+r"(value));
#endif
}

// The plane of the query with this number among those that count.
template <class T>
__device__ __forceinline__ const T* mask_plane(const CudaMasks& masks, int number) {
  const int query = masks.queries != nullptr ? masks.queries[number] : number;
  return static_cast<const T*>(masks.logits) + query * masks.query_stride;
}

// How many queries count.
__device__ __forceinline__ int mask_count(const CudaMasks& masks) {
  return masks.kept != nullptr ? *masks.kept : masks.count;
}

// Calls body with an std::integral_constant of the taps, 2 or 4.
template <class Body>
void for_taps(int taps, Body&& body) {
  taps == 2 ? body(std::integral_constant<int, 2>()) : body(std::integral_constant<int, 4>());
}

}  // namespace maskformer_ext::cuda
