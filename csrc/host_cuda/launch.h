// The launch of a kernel on the host: the twin of common/cuda_launch.cuh.
#pragma once

#include <cuda_runtime.h>

namespace maskformer_ext::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st* stream,
            const Arguments&... arguments) {
  host_cuda::launch(kernel, grid, threads, stream, arguments...);
}

}  // namespace maskformer_ext::cuda
