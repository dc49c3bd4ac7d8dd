// Runs CUDA kernels on the host, for tests. The threads of a block are fibers that take turns; blocks run one after the
// other. A fiber runs until it waits. The order of threads changes from turn to turn, and blocks run in a random order.
// So whoever relies on another without a barrier is found.
//
// Errors stop the launch with one sentence:
//
// - a grid that no GPU takes
// - a launch without a device guard, or on a stream that is not the guard's
// - a barrier that not all threads of a block reach
// - a warp operation that not all of its lanes reach
// - threads or lanes that wait for each other in different places
// - an asynchronous copy that nobody waits for
//
// shared_array.h checks shared memory, global_memory.h all other memory.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct CUstream_st;

namespace host_cuda {

inline constexpr int kWarp = 32;

// Where the running fiber is. One launch runs at a time.
struct Place {
  uint3 thread, block;
  dim3 threads, blocks;
};
extern Place place;

// An asynchronous copy of up to 16 bytes. It is plain data: what a kernel put on the heap would count as its memory.
struct Copy {
  void (*land)(const Copy& copy);  // does it
  void* array;                     // a SharedArray
  int64_t index;                   // its first element
  const void* from;                // null where zeros are written
  unsigned char bytes[16];         // what `from` held when the copy began
};

class Block {
 public:
  uint64_t stamp = 0;                // tells blocks apart, of all launches
  uint64_t first_of_launch = 0;      // the least stamp of this launch's blocks
  uint64_t epoch = 0;                // barriers passed
  std::vector<uint64_t> warp_epoch;  // __syncwarp passed: other warp operations promise no order of memory

  Block(uint64_t stamp, uint64_t first_of_launch);
  void run(const std::function<void()>& body);

  int thread() const;
  void wait_block(const std::source_location& where);
  void wait_warp(uint32_t mask, const std::source_location& where, bool orders_memory);

  // Whether the running thread may rely on what `other` did before it had passed these barriers.
  bool passed(int other, uint64_t its_epoch, uint64_t its_warp_epoch) const;

  // 16 bytes per thread, which warp operations exchange. Two sets take turns: a set is free again once its readers have
  // arrived at the next operation.
  unsigned char* slot(int thread, int set);
  int next_set();

  // Asynchronous copies of the running thread, in groups.
  void begin_copy(const Copy& copy);
  void commit_copies();
  void wait_copies(int groups_under_way);

  // Ends the launch with an error; called by a fiber.
  [[noreturn]] void fail(const std::string& what);

 private:
  struct Fiber;
  struct Impl;
  Impl* impl_;  // of the scheduler, for one block at a time

  void release();
  bool release_warp(int thread);
  void leave();
};

// The block that runs, or null.
Block* running_block();
Block& block();

// Whether an address is on a fiber's stack.
bool is_on_stack(uintptr_t address);

// Checks the grid, then runs `body` for every thread of its blocks, or for those of a sample (options.h).
void run_grid(dim3 grid, dim3 threads, CUstream_st* stream, const std::function<void()>& body);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, CUstream_st* stream,
            const Arguments&... arguments) {
  run_grid(grid, threads, stream, [&] { kernel(arguments...); });
}

}  // namespace host_cuda

#define threadIdx host_cuda::place.thread
#define blockIdx host_cuda::place.block
#define blockDim host_cuda::place.threads
#define gridDim host_cuda::place.blocks
