// Device guard, current stream and registration for the CUDA bindings, through the stable ABI.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#ifdef MASKFORMER_EXT_HOST_CUDA
#include "torch/cuda_stream_host.h"
#else

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#define MASKFORMER_EXT_CUDA_IMPL(library) STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CUDA, library)

namespace maskformer_ext {

// Makes the tensor's device current, and restores the previous one at the end of the scope. `stream` is that device's
// current stream; every kernel is launched on it.
struct CudaScope {
  explicit CudaScope(const torch::stable::Tensor& tensor) : guard(tensor.get_device_index()) {
    void* handle = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &handle));
    stream = static_cast<cudaStream_t>(handle);
  }

  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream = nullptr;
};

}  // namespace maskformer_ext

#endif
