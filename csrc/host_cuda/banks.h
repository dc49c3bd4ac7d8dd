// Counts bank conflicts in shared memory. It has 32 banks of four bytes. Lanes of a warp that want different words of
// one bank take turns, each turn a wavefront.
#pragma once

#include <cstdint>

namespace host_cuda {

// Notes that the running lane touches `bytes` at an offset of an array. Where the access is in the kernel's code,
// `site`, tells which lanes touch memory in the same instruction.
void note_access(const void* site, int64_t offset, int bytes);

// Adds what was noted in the block that has just ended.
void count_banks_of_block();

}  // namespace host_cuda
