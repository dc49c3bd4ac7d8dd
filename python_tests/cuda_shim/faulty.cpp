// Kernels with one mistake each: the stand-in for CUDA must find every one.
#include <string>

#include "common/cuda_launch.cuh"

namespace {

using maskformer_ext::cuda::launch;

__global__ void reads_without_barrier() {
  MASKFORMER_EXT_SHARED(int, values, 64);
  values[threadIdx.x] = 1;
  values[threadIdx.x] = values[threadIdx.x > 0 ? threadIdx.x - 1 : 0];
}

__global__ void writes_what_another_reads() {
  MASKFORMER_EXT_SHARED(int, values, 64);
  values[threadIdx.x] = 1;
  __syncthreads();
  const int other = values[(threadIdx.x + 1) % 64];
  values[threadIdx.x] = other;
}

__global__ void reads_what_nobody_wrote() {
  MASKFORMER_EXT_SHARED(int, values, 64);
  if (threadIdx.x < 32) values[threadIdx.x] = 1;
  __syncthreads();
  const int value = values[threadIdx.x];
  if (value == 0) __syncthreads();
}

__global__ void misses_a_barrier() {
  if (threadIdx.x != 5) __syncthreads();
}

__global__ void misses_a_warp_operation() {
  if (threadIdx.x != 5) __shfl_xor_sync(0xffffffffu, 1, 1);
}

__global__ void leaves_its_array() {
  MASKFORMER_EXT_SHARED(int, values, 64);
  values[threadIdx.x + 1] = 1;
}

__global__ void has_no_mistake(int* sum) {
  MASKFORMER_EXT_SHARED(int, values, 64);
  int value = threadIdx.x;
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(0xffffffffu, value, bits);
  values[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x == 0) *sum = values[0] + values[32];
}

}  // namespace

// Runs kernel `which`; returns what the launch complained of, "" if of nothing, and "?" beyond the last kernel.
extern "C" __attribute__((visibility("default"))) const char* run_faulty_kernel(int which) {
  static std::string message;
  void (*const kernels[])() = {reads_without_barrier, writes_what_another_reads, reads_what_nobody_wrote,
                               misses_a_barrier,      misses_a_warp_operation,   leaves_its_array};
  constexpr int count = sizeof(kernels) / sizeof(*kernels);
  message = "?";
  try {
    if (which < count) {
      launch(kernels[which], 1, 64, nullptr);
      message = "";
    } else if (which == count) {
      int sum = 0;
      launch(has_no_mistake, 1, 64, nullptr, &sum);
      message = sum == 63 * 64 / 2 ? "" : "a wrong sum";
    }
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}
