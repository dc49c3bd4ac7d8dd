// Kernels with one mistake each, in threads, shared memory and launches. The stand-in for CUDA must find every one.
#include "faulty.h"

#include <memory>
#include <stdexcept>

namespace {

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

__global__ void does_nothing() {}

__global__ void relies_on_a_shuffle() {  // a shuffle orders no memory
  MASKFORMER_EXT_SHARED(int, values, 64);
  values[threadIdx.x] = 1;
  __shfl_xor_sync(0xffffffffu, 1, 1);
  values[threadIdx.x] = values[threadIdx.x ^ 1];
}

// Every fourth word: four lanes want each bank that is used.
__global__ void reads_four_words_apart() {
  MASKFORMER_EXT_SHARED(float, values, 256);
  for (int i = threadIdx.x; i < 256; i += 64) values[i] = 1.0f;
  __syncthreads();
  const float value = values[4 * threadIdx.x];
  if (value == 0.0f) __syncthreads();
}

__global__ void has_no_mistake(int* sum) {
  MASKFORMER_EXT_SHARED(int, values, 64);
  int value = threadIdx.x;
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(0xffffffffu, value, bits);
  values[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x == 0) *sum = values[0] + values[32];
}

const Faults faults{
    {"reads_without_barrier", [] { run(reads_without_barrier); }},
    {"writes_what_another_reads", [] { run(writes_what_another_reads); }},
    {"reads_what_nobody_wrote", [] { run(reads_what_nobody_wrote); }},
    {"misses_a_barrier", [] { run(misses_a_barrier); }},
    {"misses_a_warp_operation", [] { run(misses_a_warp_operation); }},
    {"leaves_its_array", [] { run(leaves_its_array); }},
    {"waits_at_two_barriers", [] { run(waits_at_two_barriers); }},
    {"votes_in_two_places", [] { run(votes_in_two_places); }},
    {"relies_on_a_shuffle", [] { run(relies_on_a_shuffle); }},
    {"reads_four_words_apart", [] { run(reads_four_words_apart); }},
    {"has_no_blocks", [] { run(does_nothing, 0); }},
    {"has_too_many_rows_of_blocks", [] { run(does_nothing, {1, 65536}); }},
    {"has_no_guard", [] { launch(does_nothing, 1, 64, nullptr); }},
    {"takes_another_stream",
     [] {
       Guard guard;
       launch(does_nothing, 1, 64, nullptr);
     }},
    {"has_no_mistake",
     [] {
       const auto sum = std::make_unique<int>();
       run(has_no_mistake, 1, sum.get());
       if (*sum != 63 * 64 / 2) throw std::runtime_error("a wrong sum");
     }},
};

}  // namespace

std::map<std::string, void (*)()>& all_faults() {
  static std::map<std::string, void (*)()> all;
  return all;
}

// Runs a kernel; returns what the launch complained of, "" if of nothing, and "?" where it has no kernel of this name.
extern "C" __attribute__((visibility("default"))) const char* run_faulty_kernel(const char* name) {
  static std::string message;
  const auto found = all_faults().find(name);
  if (found == all_faults().end()) return "?";
  message = "";
  try {
    found->second();
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

// The names of all kernels, each in a line.
extern "C" __attribute__((visibility("default"))) const char* faulty_kernels() {
  static std::string names;
  names = "";
  for (const auto& fault : all_faults()) names += fault.first + "\n";
  return names.c_str();
}
