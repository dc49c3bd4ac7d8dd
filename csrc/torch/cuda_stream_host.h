// The twin of torch/cuda_stream.h for the host stand-in: the same ops as torch.ops.maskformer_ext_shim, on CPU tensors.
#pragma once

#define MASKFORMER_EXT_CUDA_IMPL(library) STABLE_TORCH_LIBRARY_IMPL(maskformer_ext_shim, CPU, library)
#undef STD_CUDA_KERNEL_LAUNCH_CHECK
#define STD_CUDA_KERNEL_LAUNCH_CHECK()

namespace maskformer_ext {

struct CudaScope {
  explicit CudaScope(const torch::stable::Tensor&) : stream(host_cuda::open_guard()) {}
  ~CudaScope() { host_cuda::close_guard(); }
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;

  cudaStream_t stream;
};

}  // namespace maskformer_ext
