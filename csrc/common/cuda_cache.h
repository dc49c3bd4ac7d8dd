// How large an intermediate result may be that one CUDA kernel writes and the next one reads.
#pragma once

#include <cstdint>

// The host stand-in is built with far fewer, so that small tests need several bands or chunks.
#ifndef MASKFORMER_EXT_CACHED_FLOATS
#define MASKFORMER_EXT_CACHED_FLOATS (int64_t{8} << 20)
#endif

namespace maskformer_ext {

// Floats: 32 MB of an H100's 50 MB second-level cache.
inline constexpr int64_t kCachedFloats = MASKFORMER_EXT_CACHED_FLOATS;

}  // namespace maskformer_ext
