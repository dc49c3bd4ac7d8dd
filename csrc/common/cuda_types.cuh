// Element types of the CUDA kernels: reads and writes 16-bit floats as float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdexcept>
#include <type_traits>

#include "common/cuda_launch.cuh"
#include "common/dtype.h"

namespace maskformer_ext::cuda {

__device__ __forceinline__ float as_float(float x) { return x; }
__device__ __forceinline__ float as_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float as_float(__half x) { return __half2float(x); }

__device__ __forceinline__ double as_double(double x) { return x; }
template <class T>
__device__ __forceinline__ double as_double(T x) {
  return as_float(x);
}

__device__ __forceinline__ void assign(float& to, float x) { to = x; }
__device__ __forceinline__ void assign(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }
__device__ __forceinline__ void assign(__half& to, float x) { to = __float2half_rn(x); }
__device__ __forceinline__ void assign(uint8_t& to, float x) { to = static_cast<uint8_t>(x); }

// Writes four neighbours at once.
template <class T>
__device__ __forceinline__ void store_four(T* to, const float (&values)[4]) {
  struct alignas(4 * sizeof(T)) Four {
    T elements[4];
  } four;
#pragma unroll
  for (int i = 0; i < 4; ++i) assign(four.elements[i], values[i]);
  *reinterpret_cast<Four*>(to) = four;
}

// Calls body with a null pointer to the CUDA type of a floating dtype.
template <class Body>
void for_cuda_float_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::float32:
      return body(static_cast<float*>(nullptr));
    case DType::bfloat16:
      return body(static_cast<__nv_bfloat16*>(nullptr));
    case DType::float16:
      return body(static_cast<__half*>(nullptr));
    default:
      throw std::invalid_argument("maskformer_ext: not a floating dtype");
  }
}

}  // namespace maskformer_ext::cuda
