// Checks what kernels read and write outside of shared memory: tensors and workspaces.
//
// The kernels are compiled with -fsanitize=thread, but not linked to its library. The functions that the compiler calls
// before every access are in runtime/global_memory.cpp. These end the launch:
//
// - an access beyond a tensor
// - a write of what another block of the launch writes or reads, and a read of what it writes
// - a read or write with no barrier after another thread's
// - an atomic operation on what others read or write otherwise
// - an atomic operation on floats, whose order would decide the sum
#pragma once

#include <cstddef>

namespace host_cuda {

// Forgets what earlier launches did, now and then.
void begin_launch();

void note_read(const void* address, size_t bytes);
void note_atomic(const void* address, size_t bytes, bool is_float);
// A read through the read-only cache, which never sees a write of the same launch.
void note_read_only(const void* address, size_t bytes);

}  // namespace host_cuda
