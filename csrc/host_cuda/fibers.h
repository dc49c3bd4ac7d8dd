// Runs CUDA kernels on the host, for tests. The threads of a block are fibers that take turns; blocks run one after the
// other. A fiber runs until it waits. The order of threads changes from turn to turn, so that a thread that relies on
// another without a barrier is found.
//
// Errors stop the launch with one sentence:
//
// - a grid that no GPU takes
// - a barrier that not all threads of a block reach
// - a warp operation that not all of its lanes reach
// - threads or lanes that wait for each other in different places
//
// For arrays declared with MASKFORMER_EXT_SHARED, also these:
//
// - an index out of range
// - a read of what nobody wrote
// - a read or write with no barrier after another thread's
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;

namespace host_cuda {

inline constexpr int kWarp = 32;

class Block {
 public:
  uint64_t stamp = 0;                // tells blocks apart
  uint64_t epoch = 0;                // barriers passed
  std::vector<uint64_t> warp_epoch;  // warp operations passed

  Block(dim3 shape, uint64_t stamp) : stamp(stamp), shape_(shape) {
    const int threads = static_cast<int>(shape.x * shape.y * shape.z);
    fibers_.resize(threads);
    warp_epoch.resize((threads + kWarp - 1) / kWarp);
    random_ = stamp;
    slots_.resize(2 * threads);
  }

  void run(const std::function<void()>& body) {
    body_ = &body;
    running() = this;
    for (Fiber& fiber : fibers_) start(fiber);
    int finished = 0;
    while (finished < static_cast<int>(fibers_.size())) {
      bool progress = false;
      const auto threads = static_cast<int>(fibers_.size());
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      const int first = static_cast<int>((random_ >> 33) % static_cast<unsigned>(threads));
      const bool backwards = random_ >> 63 != 0;
      for (int i = 0; i < threads; ++i) {
        const int t = (first + (backwards ? threads - i : i)) % threads;
        if (fibers_[t].state != State::ready) continue;
        resume(t);
        progress = true;
        if (!error_.empty()) throw std::runtime_error("stand-in for CUDA: " + error_);
        finished += fibers_[t].state == State::finished;
      }
      if (!progress) release();
    }
    running() = nullptr;
  }

  int thread() const { return current_; }

  void wait_block(const std::source_location& where) {
    fibers_[current_].state = State::at_barrier;
    fibers_[current_].where = where;
    leave();
  }

  void wait_warp(uint32_t mask, const std::source_location& where) {
    Fiber& fiber = fibers_[current_];
    if (!(mask >> (current_ % kWarp) & 1)) fail("a lane calls a warp operation whose mask leaves it out");
    fiber.mask = mask;
    fiber.where = where;
    fiber.state = State::at_warp;
    leave();
  }

  // 16 bytes per thread, which warp operations exchange. Two sets take turns: a set is free again once its readers have
  // arrived at the next operation.
  unsigned char* slot(int thread, int set) { return slots_.at(2 * thread + set).bytes; }
  int next_set() { return fibers_[current_].operations++ % 2; }

  // Ends the launch with an error; called by a fiber.
  [[noreturn]] void fail(const std::string& what) {
    error_ = what + " (block " + std::to_string(blockIdx.x) + ", thread " + std::to_string(current_) + ")";
    leave();
    __builtin_unreachable();
  }

  static Block*& running() {
    static thread_local Block* block = nullptr;
    return block;
  }

 private:
  enum class State { ready, at_barrier, at_warp, finished };
  struct Fiber {
    ucontext_t context;
    char* stack = nullptr;
    int operations = 0;  // warp operations that exchange values
    void* fake_stack = nullptr;
    State state = State::ready;
    uint32_t mask = 0;
    std::source_location where;  // it waits
  };
  struct Slot {
    alignas(16) unsigned char bytes[16];
  };
  static constexpr size_t kStack = 128 * 1024;

  dim3 shape_;
  std::vector<Fiber> fibers_;
  std::vector<Slot> slots_;
  ucontext_t scheduler_;
  void* scheduler_fake_stack_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_size_ = 0;
  const std::function<void()>* body_ = nullptr;
  int current_ = 0;
  std::string error_;
  uint64_t random_ = 0;

  void start(Fiber& fiber) {
    fiber.stack = stack_of(static_cast<size_t>(&fiber - fibers_.data()));
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Block::enter, 0);
  }

  // Stacks are kept from block to block.
  static char* stack_of(size_t index) {
    static thread_local std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= index) stacks.emplace_back(new char[kStack]);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stacks[index].get(), kStack);
#endif
    return stacks[index].get();
  }

  static void enter() {
    Block& block = *running();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack_, &block.scheduler_size_);
#endif
    (*block.body_)();
    block.fibers_[block.current_].state = State::finished;
    block.leave();
  }

  void resume(int t) {
    current_ = t;
    const unsigned x = shape_.x, y = shape_.y;
    threadIdx = {t % x, t / x % y, t / (x * y)};
    Fiber& fiber = fibers_[t];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack_, fiber.stack, kStack);
#endif
    swapcontext(&scheduler_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
  }

  void leave() {
    Fiber& fiber = fibers_[current_];
#if defined(__SANITIZE_ADDRESS__)
    const bool for_good = fiber.state == State::finished || !error_.empty();
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, scheduler_stack_, scheduler_size_);
#endif
    swapcontext(&fiber.context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
  }

  // Lets those go on that have all arrived where they wait for each other.
  void release() {
    bool released = false;
    for (int first = 0; first < static_cast<int>(fibers_.size()); ++first) {
      if (fibers_[first].state == State::at_warp) released |= release_warp(first);
    }
    if (released) return;
    for (const Fiber& fiber : fibers_) {
      if (fiber.state == State::at_warp)
        throw std::runtime_error("stand-in for CUDA: a warp operation waits for lanes that do not come");
      if (fiber.state == State::finished)
        throw std::runtime_error("stand-in for CUDA: not all threads of a block reach a barrier");
    }
    for (const Fiber& fiber : fibers_)
      check_same_place(fiber, fibers_[0], "the threads of a block wait at two barriers");
    ++epoch;
    for (Fiber& fiber : fibers_) fiber.state = State::ready;
  }

  static void check_same_place(const Fiber& a, const Fiber& b, const std::string& what) {
    const auto same = [](const std::source_location& x, const std::source_location& y) {
      return x.line() == y.line() && x.column() == y.column() && std::strcmp(x.file_name(), y.file_name()) == 0;
    };
    if (same(a.where, b.where)) return;
    throw std::runtime_error("stand-in for CUDA: " + what + ", in lines " + std::to_string(a.where.line()) + " and " +
                             std::to_string(b.where.line()));
  }

  bool release_warp(int thread) {
    const int base = thread / kWarp * kWarp;
    const uint32_t mask = fibers_[thread].mask;
    for (int lane = 0; lane < kWarp; ++lane) {
      if (!(mask >> lane & 1)) continue;
      if (base + lane >= static_cast<int>(fibers_.size())) continue;  // a block that ends within a warp
      const Fiber& fiber = fibers_[base + lane];
      if (fiber.state != State::at_warp || fiber.mask != mask) return false;
    }
    for (int lane = 0; lane < kWarp && base + lane < static_cast<int>(fibers_.size()); ++lane) {
      if (!(mask >> lane & 1)) continue;
      check_same_place(fibers_[base + lane], fibers_[thread], "the lanes of a warp wait in two warp operations");
    }
    ++warp_epoch[base / kWarp];
    for (int lane = 0; lane < kWarp && base + lane < static_cast<int>(fibers_.size()); ++lane) {
      if (mask >> lane & 1) fibers_[base + lane].state = State::ready;
    }
    return true;
  }
};

inline Block& block() { return *Block::running(); }

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, const Arguments&... arguments) {
  static uint64_t stamp = 0;
  const unsigned block_threads = threads.x * threads.y * threads.z;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      block_threads < 1 || block_threads > 1024) {
    throw std::runtime_error("stand-in for CUDA: a grid of (" + std::to_string(grid.x) + ", " + std::to_string(grid.y) +
                             ", " + std::to_string(grid.z) + ") blocks of " + std::to_string(block_threads) +
                             " threads cannot be launched");
  }
  gridDim = grid;
  blockDim = threads;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        Block(threads, ++stamp).run([&] { kernel(arguments...); });
      }
    }
  }
}

}  // namespace host_cuda
