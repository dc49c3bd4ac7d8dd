// The softmax of a row of class logits, as a block of threads computes it. The point matching costs share it.
#pragma once

#include <cfloat>
#include <cmath>

#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"

namespace maskformer_ext::cuda {

__device__ __forceinline__ bool finite(float x) { return fabsf(x) <= FLT_MAX; }

// Finds the largest class logit of a row and the sum of exponentials, for its softmax. Returns false where it is
// undefined.
template <int kThreads, class T>
__device__ bool class_sums(const T* logits, int64_t columns, float* largest, float* sum) {
  float most = -INFINITY;
  int wrong = 0;
  for (int64_t k = threadIdx.x; k < columns; k += kThreads) {
    const float x = as_float(logits[k]);
    wrong |= !(x <= FLT_MAX);
    most = x > most ? x : most;
  }
  most = block_reduce<kThreads>(most, Largest());
  wrong = block_reduce<kThreads>(wrong, Largest());
  float total = 0.0f;
  for (int64_t k = threadIdx.x; k < columns; k += kThreads) total += expf(as_float(logits[k]) - most);
  *largest = most;
  *sum = block_reduce<kThreads>(total, Add());
  return wrong == 0 && most > -INFINITY;
}

}  // namespace maskformer_ext::cuda
