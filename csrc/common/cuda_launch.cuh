// Launching a kernel and declaring shared memory: one spelling for nvcc and for the tests' host build of the kernels.
#pragma once

#include <cuda_runtime.h>

#include "common/cpu_dispatch.h"

#ifdef MASKFORMER_EXT_CUDA_SHIM

namespace maskformer_ext::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st*, const Arguments&... arguments) {
  cuda_shim::launch(kernel, grid, threads, arguments...);
}

}  // namespace maskformer_ext::cuda

#else

// An array of `count` elements that the threads of a block share; not initialised. Asynchronous copies and ldmatrix
// need addresses that are multiples of 16 bytes, and the compiler promises no more than the element's own alignment.
#define MASKFORMER_EXT_SHARED(type, name, count) alignas(16) __shared__ type name[count]

namespace maskformer_ext::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st* stream,
            const Arguments&... arguments) {
  kernel<<<grid, threads, 0, stream>>>(arguments...);
}

}  // namespace maskformer_ext::cuda

#endif
