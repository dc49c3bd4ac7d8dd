// Answers whether this library can run on a GPU, without launching anything. Python falls back to the references where
// it cannot.
#include "common/cuda_launch.cuh"

namespace maskformer_ext::cuda {
namespace {

// All kernels are compiled for the same GPUs, so one stands for them.
__global__ void any_kernel(int* to) { *to = 0; }

}  // namespace
}  // namespace maskformer_ext::cuda

// Returns null where kernels run on a GPU. Otherwise the CUDA runtime's sentence for why not: no code for it, or a
// driver older than this library's runtime.
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
