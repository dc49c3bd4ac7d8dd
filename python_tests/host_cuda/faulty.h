// What the kernels with mistakes share.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "common/cuda_launch.cuh"
#include "common/cuda_mma.cuh"

using maskformer_ext::cuda::launch;

// By name: each runs a kernel. They are added when the library is loaded.
std::map<std::string, void (*)()>& all_faults();

struct Faults {
  Faults(std::initializer_list<std::pair<const char*, void (*)()>> faults) {
    for (const auto& [name, run] : faults) all_faults()[name] = run;
  }
};

struct Guard {
  CUstream_st* stream = host_cuda::open_guard();
  ~Guard() { host_cuda::close_guard(); }
};

// Launches blocks of 64 threads as an op does.
template <class... Parameters, class... Arguments>
void run(void (*kernel)(Parameters...), dim3 grid = 1, const Arguments&... arguments) {
  Guard guard;
  launch(kernel, grid, 64, guard.stream, arguments...);
}
