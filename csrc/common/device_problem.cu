// Whether this library can run on a GPU, asked without launching anything: Python falls back to the references where it
// cannot.
#include "common/cuda_launch.cuh"

namespace maskformer_ext::cuda {
namespace {

// All kernels are compiled for the same GPUs, so one stands for them.
__global__ void any_kernel(int* to) { *to = 0; }

}  // namespace
}  // namespace maskformer_ext::cuda

// The CUDA runtime's sentence for what keeps kernels from running on a GPU (no code for it, a driver that is older than
// the runtime in this library), or null.
extern "C" __attribute__((visibility("default"))) const char* maskformer_ext_cuda_problem(int device) {
  int before = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error == cudaSuccess) {
    cudaFuncAttributes attributes;
    error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&maskformer_ext::cuda::any_kernel));
    cudaSetDevice(before);
  }
  cudaGetLastError();  // the next launch must not find it
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
