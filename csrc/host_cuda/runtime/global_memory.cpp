// A shadow of all memory that kernels touch: who wrote and read each byte last.
#include "host_cuda/global_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host_cuda/fibers.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace host_cuda {
namespace {

// Of a byte, or of four bytes in pages whose accesses are all of whole words.
struct Cell {
  uint32_t write_block = 0, read_block = 0;  // stamps; four thousand million blocks are more than tests run
  uint32_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
  int16_t writer = -1, reader = -1;
  bool atomic = false;        // the last write was one
  bool many_readers = false;  // since the last barrier
  bool many_blocks = false;   // of this launch have read it
};

constexpr uintptr_t kPage = 4096;    // of the system, too
constexpr size_t kMostPages = 2048;  // are kept from launch to launch; what they hold is of no use to the next
constexpr const char* kNoTensor = "memory is touched that belongs to no tensor";

struct Page {
  bool bytes = false;  // a cell per byte
  std::vector<Cell> cells{kPage / 4};

  void refine() {
    std::vector<Cell> fine(kPage);
    for (uintptr_t i = 0; i < kPage; ++i) fine[i] = cells[i / 4];
    cells = std::move(fine);
    bytes = true;
  }
};

enum class Access { read, write, atomic, read_only };

std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
uintptr_t last_number = 0;
Page* last = nullptr;

Page& page_of(Block& b, uintptr_t number) {
  if (last != nullptr && number == last_number) return *last;
  std::unique_ptr<Page>& page = pages[number];
  if (page == nullptr) {
    unsigned char resident = 0;
    const bool is_mapped = mincore(reinterpret_cast<void*>(number * kPage), kPage, &resident) == 0;
    if (!is_mapped) b.fail(kNoTensor);
    page = std::make_unique<Page>();
  }
  last_number = number;
  return *(last = page.get());
}

void read(Block& b, Cell& cell, bool read_only) {
  if (cell.write_block >= b.first_of_launch) {
    if (read_only) b.fail("memory that this launch writes is read through the read-only cache");
    if (cell.write_block != b.stamp) b.fail("a block reads what another block of the launch writes");
    if (!b.passed(cell.writer, cell.write_epoch, cell.write_warp_epoch)) {
      b.fail("memory is read after another thread's write without a barrier");
    }
  }
  const bool read_in_launch = cell.read_block >= b.first_of_launch;
  cell.many_blocks = read_in_launch && (cell.many_blocks || cell.read_block != b.stamp);
  const bool read_since_barrier = cell.read_block == b.stamp && cell.read_epoch == b.epoch;
  cell.many_readers = read_since_barrier && (cell.many_readers || cell.reader != b.thread());
  cell.read_block = static_cast<uint32_t>(b.stamp);
  cell.reader = static_cast<int16_t>(b.thread());
  cell.read_epoch = static_cast<uint32_t>(b.epoch);
  cell.read_warp_epoch = static_cast<uint32_t>(b.warp_epoch[b.thread() / kWarp]);
}

void write(Block& b, Cell& cell, bool atomic) {
  if (cell.write_block >= b.first_of_launch && !(atomic && cell.atomic)) {
    if (cell.write_block != b.stamp) b.fail("two blocks of a launch write to the same memory");
    if (!b.passed(cell.writer, cell.write_epoch, cell.write_warp_epoch)) {
      b.fail("memory is written by two threads without a barrier");
    }
  }
  if (cell.read_block >= b.first_of_launch) {
    if (cell.many_blocks || cell.read_block != b.stamp) b.fail("a block writes what another block of the launch reads");
    const bool after_last = b.passed(cell.reader, cell.read_epoch, cell.read_warp_epoch);
    const bool same_warp = cell.reader / kWarp == b.thread() / kWarp;
    if (cell.read_epoch == b.epoch && (!after_last || (cell.many_readers && !same_warp))) {
      b.fail("memory is written after another thread's read without a barrier");
    }
  }
  cell.write_block = static_cast<uint32_t>(b.stamp);
  cell.writer = static_cast<int16_t>(b.thread());
  cell.write_epoch = static_cast<uint32_t>(b.epoch);
  cell.write_warp_epoch = static_cast<uint32_t>(b.warp_epoch[b.thread() / kWarp]);
  cell.atomic = atomic;
  cell.read_block = 0;
  cell.many_readers = cell.many_blocks = false;
}

void note(const void* memory, size_t size, Access access) {
  Block* b = running_block();
  const auto address = reinterpret_cast<uintptr_t>(memory);
  if (b == nullptr || is_on_stack(address) || address - reinterpret_cast<uintptr_t>(&place) < sizeof(place)) return;
#if defined(__SANITIZE_ADDRESS__)
  if (__asan_region_is_poisoned(const_cast<void*>(memory), size) != nullptr) {
    b->fail(kNoTensor);
  }
#endif
  const uintptr_t end = address + size;
  for (uintptr_t at = address; at < end;) {
    Page& page = page_of(*b, at / kPage);
    if (!page.bytes && (at % 4 != 0 || end - at < 4)) page.refine();
    Cell& cell = page.cells[page.bytes ? at % kPage : at % kPage / 4];
    const bool reads = access == Access::read || access == Access::read_only;
    reads ? read(*b, cell, access == Access::read_only) : write(*b, cell, access == Access::atomic);
    at += page.bytes ? 1 : 4;
  }
}

}  // namespace

void begin_launch() {
  if (pages.size() < kMostPages) return;
  pages.clear();
  last = nullptr;
}

void note_read(const void* address, size_t bytes) { note(address, bytes, Access::read); }

void note_atomic(const void* address, size_t bytes, bool is_float) {
  if (is_float) block().fail("an atomic operation on floats: its order would decide the result");
  note(address, bytes, Access::atomic);
}

void note_read_only(const void* address, size_t bytes) { note(address, bytes, Access::read_only); }

}  // namespace host_cuda

// What the compiler calls. The names are those of its interface.
#define HOST_CUDA_EXPORT extern "C" __attribute__((visibility("hidden")))
#define HOST_CUDA_ACCESS(size)                                                                                        \
  HOST_CUDA_EXPORT void __tsan_read##size(void* address) { host_cuda::note(address, size, host_cuda::Access::read); } \
  HOST_CUDA_EXPORT void __tsan_write##size(void* address) {                                                           \
    host_cuda::note(address, size, host_cuda::Access::write);                                                         \
  }                                                                                                                   \
  HOST_CUDA_EXPORT void __tsan_unaligned_read##size(void* address) { __tsan_read##size(address); }                    \
  HOST_CUDA_EXPORT void __tsan_unaligned_write##size(void* address) { __tsan_write##size(address); }                  \
  HOST_CUDA_EXPORT void __tsan_volatile_read##size(void* address) { __tsan_read##size(address); }                     \
  HOST_CUDA_EXPORT void __tsan_volatile_write##size(void* address) { __tsan_write##size(address); }

HOST_CUDA_ACCESS(1)
HOST_CUDA_ACCESS(2)
HOST_CUDA_ACCESS(4)
HOST_CUDA_ACCESS(8)
HOST_CUDA_ACCESS(16)

HOST_CUDA_EXPORT void __tsan_read_range(void* address, size_t size) {
  host_cuda::note(address, size, host_cuda::Access::read);
}
HOST_CUDA_EXPORT void __tsan_write_range(void* address, size_t size) {
  host_cuda::note(address, size, host_cuda::Access::write);
}
HOST_CUDA_EXPORT void __tsan_init() {}
HOST_CUDA_EXPORT void __tsan_func_entry(void*) {}
HOST_CUDA_EXPORT void __tsan_func_exit(void*) {}
HOST_CUDA_EXPORT void __tsan_vptr_update(void**, void*) {}
HOST_CUDA_EXPORT char __tsan_atomic8_load(const volatile char* address, int) { return __atomic_load_n(address, 2); }
