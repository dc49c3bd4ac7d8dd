// Launching a kernel and declaring shared memory: one spelling for nvcc and for the host stand-in.
#pragma once

#include <cuda_runtime.h>

#include "common/cpu_dispatch.h"

#ifdef MASKFORMER_EXT_HOST_CUDA
#include "host_cuda/launch.h"
#include "host_cuda/shared_array.h"
#else

// An array of `count` elements that the threads of a block share; it is not initialised. Asynchronous copies and
// ldmatrix need addresses that are multiples of 16 bytes. The compiler promises only the element's own alignment.
#define MASKFORMER_EXT_SHARED(type, name, count) alignas(16) __shared__ type name[count]

namespace maskformer_ext::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st* stream,
            const Arguments&... arguments) {
  kernel<<<grid, threads, 0, stream>>>(arguments...);
}

// Adds to an integer in shared memory and returns what was there before.
__device__ __forceinline__ int atomic_add(int& to, int value) { return atomicAdd(&to, value); }

}  // namespace maskformer_ext::cuda

#endif

namespace maskformer_ext::cuda {

// How many multiprocessors the current device has.
inline int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count > 0 ? count : 1;
}

}  // namespace maskformer_ext::cuda
