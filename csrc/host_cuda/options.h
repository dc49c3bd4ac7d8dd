// What a test may choose of the stand-in, the random numbers, and the device guard that launches need.
#pragma once

#include <cstdint>
#include <string>

struct CUstream_st;

namespace host_cuda {

struct Options {
  uint64_t seed = 1;                  // of the order of threads and blocks
  uint64_t most_blocks = UINT64_MAX;  // a launch of more blocks runs a sample of them
  bool rounding = true;               // whether results are wrong by as much as a GPU's may be (rounding.h)
  bool banks = false;                 // whether bank conflicts are counted (banks.h)
};
Options& options();

class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(seed) {}
  uint64_t below(uint64_t limit);  // a number in [0, limit)

 private:
  uint64_t state_;
};

// The stream of the guard that is open, null where there is none. Guards may be nested.
CUstream_st* open_guard();
void close_guard();

// Ends a launch, or what writes memory on a stream, with an error unless the stream is that of an open guard.
void check_stream(CUstream_st* stream);

}  // namespace host_cuda
