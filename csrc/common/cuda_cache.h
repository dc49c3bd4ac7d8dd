// How large an intermediate result may be that one CUDA kernel writes and the next one reads.
#pragma once

#include <cstdint>

// The host stand-in is built with far fewer, so that small tests need several bands or chunks.
#ifndef MASKFORMER_EXT_CACHED_FLOATS
#define MASKFORMER_EXT_CACHED_FLOATS (int64_t{10} << 20)
#endif

namespace maskformer_ext {

// Floats: 40 MB of an H100's 50 MB second-level cache.
inline constexpr int64_t kCachedFloats = MASKFORMER_EXT_CACHED_FLOATS;

// Splits `total` items into as few chunks of at most `most` as there can be, and evenly. Returns the length of a chunk.
constexpr int64_t even_chunk(int64_t total, int64_t most) {
  if (total <= 1 || most <= 1) return 1;
  const int64_t chunks = (total + most - 1) / most;
  return (total + chunks - 1) / chunks;
}

}  // namespace maskformer_ext
