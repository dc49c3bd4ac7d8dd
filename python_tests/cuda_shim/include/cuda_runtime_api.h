// Test-only stand-in: device memory is host memory, and streams do nothing.
#pragma once

#include <cstddef>
#include <cstring>

struct CUstream_st;
using cudaStream_t = CUstream_st*;
using cudaError_t = int;
inline constexpr cudaError_t cudaSuccess = 0;

inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
