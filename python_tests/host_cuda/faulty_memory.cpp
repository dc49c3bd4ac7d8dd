// Kernels with one mistake each, in device memory, copies and rounding. The stand-in for CUDA must find every one.
#include <cmath>
#include <memory>
#include <stdexcept>

#include "faulty.h"

namespace {

using maskformer_ext::cuda::commit_copies;
using maskformer_ext::cuda::copy_async;
using maskformer_ext::cuda::wait_copies;

// Device memory passes from thread to thread without a barrier.
__global__ void hands_over_without_barrier(int* memory) {
  memory[threadIdx.x] = 1;
  memory[64 + threadIdx.x] = memory[threadIdx.x ^ 1];
}

__global__ void hands_over_behind_a_barrier(int* memory) {
  memory[threadIdx.x] = 1;
  __syncthreads();
  memory[64 + threadIdx.x] = memory[threadIdx.x ^ 33];
  __syncwarp();
  const int neighbour = memory[64 + (threadIdx.x ^ 1)];
  __syncthreads();
  memory[threadIdx.x] = neighbour;
}

__global__ void overwrites_what_another_reads(int* memory) {
  memory[64 + threadIdx.x] = memory[threadIdx.x ^ 33];
  memory[threadIdx.x] = 1;
}

// The result of a block is read by the next one, which need not run after it.
__global__ void reads_another_blocks_result(int* memory) {
  if (threadIdx.x == 0) memory[blockIdx.x] = blockIdx.x > 0 ? memory[blockIdx.x - 1] + 1 : 0;
}

__global__ void two_blocks_write_one_result(int* memory) {
  if (threadIdx.x == 0) memory[blockIdx.x / 2] = 7;
}

// Neighbouring bytes belong to different threads: no mistake.
__global__ void writes_neighbouring_bytes(int* memory) {
  reinterpret_cast<unsigned char*>(memory)[blockIdx.x * 64 + threadIdx.x] = 7;
}

__global__ void leaves_its_tensor(int* memory) { memory[2 * threadIdx.x + 2] = 1; }

__global__ void adds_floats_in_any_order(int* memory) { atomicAdd(reinterpret_cast<float*>(memory), 0.1f); }

__global__ void adds_to_what_another_block_sets(int* memory) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) {
    memory[0] = 5;
  } else {
    atomicAdd(memory, 1);
  }
}

__global__ void reads_its_own_result_through_the_read_only_cache(int* memory) {
  memory[threadIdx.x] = 1;
  memory[64 + threadIdx.x] = __ldg(memory + threadIdx.x);
}

// 32-bit offsets in a tensor of more than 2^31 elements.
__global__ void counts_elements_in_32_bits(unsigned char* memory) {
  memory[static_cast<int>(blockIdx.x * 65536 + threadIdx.x)] = 1;
}
__global__ void counts_elements_in_64_bits(unsigned char* memory) {
  memory[int64_t{blockIdx.x} * 65536 + threadIdx.x] = 1;
}
void in_a_large_tensor(void (*kernel)(unsigned char*)) {
  constexpr unsigned blocks = 40000;
  const std::unique_ptr<unsigned char[]> memory(
      new unsigned char[int64_t{blocks} * 65536]);  // the system gives what is touched
  host_cuda::Options& options = host_cuda::options();
  options.most_blocks = 16;
  const std::unique_ptr<host_cuda::Options, void (*)(host_cuda::Options*)> restore(
      &options, [](host_cuda::Options* changed) { changed->most_blocks = UINT64_MAX; });
  run(kernel, blocks, memory.get());
}

alignas(16) const float source[8] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};

__global__ void copies_from_between() {
  MASKFORMER_EXT_SHARED(float, values, 4);
  if (threadIdx.x == 0) copy_async(values, 0, source + 1, true);
}

__global__ void forgets_to_wait_for_a_copy(int* memory) {
  MASKFORMER_EXT_SHARED(float, values, 4);
  if (threadIdx.x == 0) copy_async(values, 0, source, true);
  commit_copies();
  __syncthreads();
  memory[threadIdx.x] = values[threadIdx.x % 4] > 2.0f;
}

__global__ void waits_for_one_group_too_few(int* memory) {
  MASKFORMER_EXT_SHARED(float, values, 8);
  for (int i = 0; i < 2; ++i) {
    if (threadIdx.x == 0) copy_async(values, 4 * i, source + 4 * i, true);
    commit_copies();
  }
  wait_copies<1>();
  __syncthreads();
  memory[threadIdx.x] = values[threadIdx.x % 8] > 2.0f;
  wait_copies<0>();
}

__global__ void waits_but_passes_no_barrier(int* memory) {
  MASKFORMER_EXT_SHARED(float, values, 4);
  if (threadIdx.x == 0) copy_async(values, 0, source, true);
  commit_copies();
  wait_copies<0>();
  memory[threadIdx.x] = values[threadIdx.x % 4] > 2.0f;
}

__global__ void changes_what_is_being_copied(int* memory) {
  MASKFORMER_EXT_SHARED(int, values, 4);
  if (threadIdx.x == 0) {
    copy_async(values, 0, memory, true);
    memory[1] = 7;
    commit_copies();
    wait_copies<0>();
  }
}

__global__ void copies_and_waits(int* memory) {
  MASKFORMER_EXT_SHARED(float, values, 8);
  for (int i = 0; i < 2; ++i) {
    if (threadIdx.x == 0) copy_async(values, 4 * i, source + 4 * i, true);
    commit_copies();
  }
  wait_copies<1>();
  __syncthreads();
  const float first = values[threadIdx.x % 4];
  wait_copies<0>();
  __syncthreads();
  memory[threadIdx.x] = first + 4.0f == values[4 + threadIdx.x % 4];
}

// Exact to the last digit on the host, not on a GPU.
__global__ void relies_on_exact_functions(int* memory) {
  const float x = 0.1f * static_cast<float>(threadIdx.x + 1);
  memory[threadIdx.x] = __expf(-x) == std::exp(-x) && __fdividef(1.0f, x) == 1.0f / x;
}

void in_a_tensor(void (*kernel)(int*), dim3 grid) {
  const std::unique_ptr<int[]> memory(new int[128]());  // with forbidden memory on both sides
  run(kernel, grid, memory.get());
}
template <void (*kernel)(int*), int blocks>
void in_a_tensor() {
  in_a_tensor(kernel, blocks);
}

template <void (*kernel)(int*)>
void in_every_thread() {
  const std::unique_ptr<int[]> memory(new int[64]());
  run(kernel, 1, memory.get());
  for (int i = 0; i < 64; ++i) {
    if (memory[i] == 0) throw std::runtime_error("thread " + std::to_string(i) + " found a difference");
  }
}

const Faults faults{
    {"hands_over_without_barrier", in_a_tensor<hands_over_without_barrier, 1>},
    {"hands_over_behind_a_barrier", in_a_tensor<hands_over_behind_a_barrier, 1>},
    {"overwrites_what_another_reads", in_a_tensor<overwrites_what_another_reads, 1>},
    {"reads_another_blocks_result", in_a_tensor<reads_another_blocks_result, 8>},
    {"two_blocks_write_one_result", in_a_tensor<two_blocks_write_one_result, 8>},
    {"writes_neighbouring_bytes", in_a_tensor<writes_neighbouring_bytes, 8>},
    {"leaves_its_tensor", in_a_tensor<leaves_its_tensor, 1>},
    {"adds_floats_in_any_order", in_a_tensor<adds_floats_in_any_order, 1>},
    {"adds_to_what_another_block_sets", in_a_tensor<adds_to_what_another_block_sets, 8>},
    {"reads_its_own_result_through_the_read_only_cache",
     in_a_tensor<reads_its_own_result_through_the_read_only_cache, 1>},
    {"counts_elements_in_32_bits", [] { in_a_large_tensor(counts_elements_in_32_bits); }},
    {"counts_elements_in_64_bits", [] { in_a_large_tensor(counts_elements_in_64_bits); }},
    {"copies_from_between", [] { run(copies_from_between); }},
    {"forgets_to_wait_for_a_copy", in_a_tensor<forgets_to_wait_for_a_copy, 1>},
    {"waits_for_one_group_too_few", in_a_tensor<waits_for_one_group_too_few, 1>},
    {"waits_but_passes_no_barrier", in_a_tensor<waits_but_passes_no_barrier, 1>},
    {"changes_what_is_being_copied", in_a_tensor<changes_what_is_being_copied, 1>},
    {"copies_and_waits", in_every_thread<copies_and_waits>},
    {"relies_on_exact_functions", in_every_thread<relies_on_exact_functions>},
};

}  // namespace
