// Options of the stand-in, random numbers, and the device guard.
#include "host_cuda/options.h"

#include <stdexcept>

namespace host_cuda {
namespace {

int guards = 0;
char the_stream;  // its address is the stream of the only device

}  // namespace

Options& options() {
  static Options options;
  return options;
}

// SplitMix64: a counter and a mixing function.
uint64_t Random::below(uint64_t limit) {
  uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return (x ^ x >> 31) % limit;
}

CUstream_st* open_guard() {
  ++guards;
  return reinterpret_cast<CUstream_st*>(&the_stream);
}

void close_guard() { --guards; }

void check_stream(CUstream_st* stream) {
  if (guards == 0) throw std::runtime_error("stand-in for CUDA: a launch without a device guard");
  if (stream != reinterpret_cast<CUstream_st*>(&the_stream)) {
    throw std::runtime_error("stand-in for CUDA: a launch on another stream than the guard's");
  }
}

}  // namespace host_cuda

// The options, for tests: what each names is in host_cuda/options.h.
extern "C" __attribute__((visibility("default"))) void host_cuda_configure(uint64_t seed, uint64_t most_blocks,
                                                                           bool rounding, bool banks) {
  host_cuda::options() = {seed, most_blocks, rounding, banks};
}
