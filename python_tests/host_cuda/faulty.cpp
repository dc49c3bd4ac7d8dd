// Kernels with one mistake each: the stand-in for CUDA must find every one.
#include <string>

#include "common/cuda_launch.cuh"
#include "common/cuda_mma.cuh"

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

__global__ void waits_at_two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void votes_in_two_places() {
  if (threadIdx.x % 2 == 0) {
    __any_sync(0xffffffffu, 1);
  } else {
    __any_sync(0xffffffffu, 0);
  }
}

__global__ void copies_from_between() {
  alignas(16) static const float from[8] = {};
  MASKFORMER_EXT_SHARED(float, values, 4);
  if (threadIdx.x == 0) maskformer_ext::cuda::copy_async(values, 0, from + 1, true);
}

__global__ void does_nothing() {}

// Device memory passes from thread to thread without a barrier; `missed` counts the threads that came too early.
__global__ void hands_over_without_barrier(int* handed, int* missed) {
  handed[threadIdx.x] = 1;
  if (threadIdx.x > 0 && handed[threadIdx.x - 1] == 0) ++*missed;
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
  const struct {
    void (*kernel)();
    dim3 grid;
  } faults[] = {
      {reads_without_barrier, 1}, {writes_what_another_reads, 1}, {reads_what_nobody_wrote, 1},
      {misses_a_barrier, 1},      {misses_a_warp_operation, 1},   {leaves_its_array, 1},
      {waits_at_two_barriers, 1}, {votes_in_two_places, 1},       {copies_from_between, 1},
      {does_nothing, 0},          {does_nothing, {1, 65536}},
  };
  constexpr int count = sizeof(faults) / sizeof(*faults);
  message = "?";
  try {
    if (which < count) {
      launch(faults[which].kernel, faults[which].grid, 64, nullptr);
      message = "";
    } else if (which == count) {
      int handed[64] = {}, missed = 0;
      launch(hands_over_without_barrier, 1, 64, nullptr, &handed[0], &missed);
      message = missed > 0 ? "another order of threads, another result" : "";
    } else if (which == count + 1) {
      int sum = 0;
      launch(has_no_mistake, 1, 64, nullptr, &sum);
      message = sum == 63 * 64 / 2 ? "" : "a wrong sum";
    }
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}
