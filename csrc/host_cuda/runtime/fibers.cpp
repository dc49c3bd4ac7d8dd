// The scheduler of a block's threads, and of a launch's blocks.
#include "host_cuda/fibers.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "host_cuda/banks.h"
#include "host_cuda/global_memory.h"
#include "host_cuda/options.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace host_cuda {

Place place;

namespace {

Block* running = nullptr;

[[noreturn]] void raise(const std::string& what) { throw std::runtime_error("stand-in for CUDA: " + what); }

// Stacks of all fibers, one after the other. They are kept from block to block.
constexpr size_t kStack = 128 * 1024, kMostThreads = 1024;
char* stacks() {
  static char* const memory = static_cast<char*>(
      mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

void check_same_place(const std::source_location& a, const std::source_location& b, const std::string& what) {
  if (a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0) return;
  raise(what + ", in lines " + std::to_string(a.line()) + " and " + std::to_string(b.line()));
}

}  // namespace

enum class State { ready, at_barrier, at_warp, finished };

struct Block::Fiber {
  ucontext_t context;
  int operations = 0;  // warp operations that exchange values
  void* fake_stack = nullptr;
  State state = State::ready;
  uint32_t mask = 0;
  bool orders_memory = false;
  std::source_location where;               // it waits
  std::deque<std::vector<Copy>> copies{1};  // groups under way; the last is not yet committed
};

struct Block::Impl {
  struct Slot {
    alignas(16) unsigned char bytes[16];
  };

  std::vector<Fiber> fibers;
  std::vector<Slot> slots;
  ucontext_t scheduler;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_size = 0;
  const std::function<void()>* body = nullptr;
  int current = 0;
  std::string error;
  Random random;

  static void enter() {
    Block& block = *running;
    Impl& impl = *block.impl_;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &impl.scheduler_stack, &impl.scheduler_size);
#endif
    (*impl.body)();
    Fiber& fiber = impl.fibers[impl.current];
    for (const auto& group : fiber.copies) {
      if (!group.empty()) block.fail("a thread ends before its asynchronous copies");
    }
    fiber.state = State::finished;
    block.leave();
  }

  void start(int t) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks() + t * kStack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Impl::enter, 0);
  }

  void resume(int t) {
    current = t;
    const unsigned x = place.threads.x, y = place.threads.y;
    place.thread = {t % x, t / x % y, t / (x * y)};
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, stacks() + t * kStack, kStack);
#endif
    swapcontext(&scheduler, &fibers[t].context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  }
};

Block::Block(uint64_t stamp, uint64_t first_of_launch)
    : stamp(stamp), first_of_launch(first_of_launch), impl_(nullptr) {}

void Block::run(const std::function<void()>& body) {
  const int threads = static_cast<int>(place.threads.x * place.threads.y * place.threads.z);
  Impl impl;
  impl.fibers = std::vector<Fiber>(threads);
  impl.slots.resize(2 * threads);
  impl.random = Random(stamp ^ options().seed);
  impl.body = &body;
  warp_epoch.assign((threads + kWarp - 1) / kWarp, 0);
  impl_ = &impl;
  struct Running {
    explicit Running(Block* block) { running = block; }
    ~Running() { running = nullptr; }
  } scope(this);
  for (int t = 0; t < threads; ++t) impl.start(t);
  int finished = 0;
  while (finished < threads) {
    bool progress = false;
    const int first = static_cast<int>(impl.random.below(threads));
    const bool backwards = impl.random.below(2) != 0;
    for (int i = 0; i < threads; ++i) {
      const int t = (first + (backwards ? threads - i : i)) % threads;
      if (impl.fibers[t].state != State::ready) continue;
      impl.resume(t);
      progress = true;
      if (!impl.error.empty()) raise(impl.error);
      finished += impl.fibers[t].state == State::finished;
    }
    if (!progress) release();
  }
}

int Block::thread() const { return impl_->current; }

void Block::wait_block(const std::source_location& where) {
  Fiber& fiber = impl_->fibers[impl_->current];
  fiber.state = State::at_barrier;
  fiber.where = where;
  leave();
}

void Block::wait_warp(uint32_t mask, const std::source_location& where, bool orders_memory) {
  Fiber& fiber = impl_->fibers[impl_->current];
  if (!(mask >> (impl_->current % kWarp) & 1)) fail("a lane calls a warp operation whose mask leaves it out");
  fiber.mask = mask;
  fiber.where = where;
  fiber.orders_memory = orders_memory;
  fiber.state = State::at_warp;
  leave();
}

bool Block::passed(int other, uint64_t its_epoch, uint64_t its_warp_epoch) const {
  const int own = impl_->current;
  if (other == own || epoch > its_epoch) return true;
  return other / kWarp == own / kWarp && warp_epoch[own / kWarp] > its_warp_epoch;
}

unsigned char* Block::slot(int thread, int set) { return impl_->slots.at(2 * thread + set).bytes; }
int Block::next_set() { return impl_->fibers[impl_->current].operations++ % 2; }

void Block::begin_copy(const Copy& copy) { impl_->fibers[impl_->current].copies.back().push_back(copy); }

void Block::commit_copies() { impl_->fibers[impl_->current].copies.emplace_back(); }

void Block::wait_copies(int groups_under_way) {
  auto& copies = impl_->fibers[impl_->current].copies;
  while (static_cast<int>(copies.size()) - 1 > groups_under_way) {
    for (const Copy& copy : copies.front()) copy.land(copy);
    copies.pop_front();
  }
}

void Block::fail(const std::string& what) {
  impl_->error = what + " (block " + std::to_string(place.block.x) + ", thread " + std::to_string(thread()) + ")";
  leave();
  __builtin_unreachable();
}

void Block::leave() {
  Fiber& fiber = impl_->fibers[impl_->current];
#if defined(__SANITIZE_ADDRESS__)
  const bool for_good = fiber.state == State::finished || !impl_->error.empty();
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, impl_->scheduler_stack, impl_->scheduler_size);
#endif
  swapcontext(&fiber.context, &impl_->scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

// Lets those go on that have all arrived where they wait for each other.
void Block::release() {
  auto& fibers = impl_->fibers;
  bool released = false;
  for (int first = 0; first < static_cast<int>(fibers.size()); ++first) {
    if (fibers[first].state == State::at_warp) released |= release_warp(first);
  }
  if (released) return;
  for (const Fiber& fiber : fibers) {
    if (fiber.state == State::at_warp) raise("a warp operation waits for lanes that do not come");
    if (fiber.state == State::finished) raise("not all threads of a block reach a barrier");
  }
  for (const Fiber& fiber : fibers)
    check_same_place(fiber.where, fibers[0].where, "the threads of a block wait at two barriers");
  ++epoch;
  for (Fiber& fiber : fibers) fiber.state = State::ready;
}

bool Block::release_warp(int thread) {
  auto& fibers = impl_->fibers;
  const int base = thread / kWarp * kWarp, end = std::min(base + kWarp, static_cast<int>(fibers.size()));
  const uint32_t mask = fibers[thread].mask;
  const auto takes_part = [&](int t) { return (mask >> (t - base) & 1) != 0; };  // a block may end within a warp
  for (int t = base; t < end; ++t) {
    if (takes_part(t) && (fibers[t].state != State::at_warp || fibers[t].mask != mask)) return false;
  }
  for (int t = base; t < end; ++t) {
    if (!takes_part(t)) continue;
    check_same_place(fibers[t].where, fibers[thread].where, "the lanes of a warp wait in two warp operations");
  }
  if (fibers[thread].orders_memory) ++warp_epoch[base / kWarp];
  for (int t = base; t < end; ++t) {
    if (takes_part(t)) fibers[t].state = State::ready;
  }
  return true;
}

Block* running_block() { return running; }
Block& block() { return *running; }

bool is_on_stack(uintptr_t address) { return address - reinterpret_cast<uintptr_t>(stacks()) < kStack * kMostThreads; }

namespace {

void check_grid(dim3 grid, dim3 threads) {
  const unsigned block_threads = threads.x * threads.y * threads.z;
  if (grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 &&
      block_threads >= 1 && block_threads <= kMostThreads) {
    return;
  }
  raise("a grid of (" + std::to_string(grid.x) + ", " + std::to_string(grid.y) + ", " + std::to_string(grid.z) +
        ") blocks of " + std::to_string(block_threads) + " threads cannot be launched");
}

// The blocks to run, in a random order. Of a sample, the first and the last block are always part.
std::vector<uint64_t> blocks_to_run(uint64_t count, Random& random) {
  std::vector<uint64_t> blocks(std::min<uint64_t>(count, options().most_blocks));
  if (blocks.size() == count) {
    std::iota(blocks.begin(), blocks.end(), 0);
  } else {
    for (uint64_t& one : blocks) one = random.below(count);
    blocks.front() = 0;
    blocks.back() = count - 1;
    std::sort(blocks.begin(), blocks.end());
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  }
  for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random.below(i)]);
  return blocks;
}

}  // namespace

void run_grid(dim3 grid, dim3 threads, CUstream_st* stream, const std::function<void()>& body) {
  static uint64_t stamp = 0;
  check_grid(grid, threads);
  check_stream(stream);
  begin_launch();
  place.blocks = grid;
  place.threads = threads;
  Random random(stamp ^ options().seed);
  const uint64_t first = stamp + 1;
  for (const uint64_t index : blocks_to_run(uint64_t{grid.x} * grid.y * grid.z, random)) {
    place.block = {static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
                   static_cast<unsigned>(index / grid.x / grid.y)};
    Block(++stamp, first).run(body);
    count_banks_of_block();
  }
}

}  // namespace host_cuda
