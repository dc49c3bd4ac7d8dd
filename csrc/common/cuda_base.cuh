// The address of an array, kept in registers.
//
// The compiler likes to take an address apart again: into a kernel's parameter and a 64-bit index, which it then adds
// for every element. That takes four instructions instead of one.
#pragma once

#include "common/cuda_launch.cuh"

namespace maskformer_ext::cuda {

template <class T>
__device__ __forceinline__ const T* base_of(const T* array) {
#ifdef __CUDA_ARCH__
  asm("" : "+l"(array));
  __builtin_assume(__isGlobal(array));
#endif
  return array;
}

// The same for a number: it stays in a register, and is not read or converted again where it is used.
__device__ __forceinline__ int in_register(int value) {
#ifdef __CUDA_ARCH__
  asm("" : "+r"(value));
#endif
  return value;
}

}  // namespace maskformer_ext::cuda
