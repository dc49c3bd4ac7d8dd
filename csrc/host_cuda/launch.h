// The launch of a kernel on the host: the twin of common/cuda_launch.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace maskformer_ext::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st* stream,
            const Arguments&... arguments) {
  host_cuda::launch(kernel, grid, threads, stream, arguments...);
}

inline float fast_exp2(float x) { return std::exp2(x); }
inline float fast_reciprocal(float x) { return 1.0f / x; }

}  // namespace maskformer_ext::cuda
