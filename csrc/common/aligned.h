// Vectors whose data starts on a cache line: what SIMD loops read and write.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "common/cpu_dispatch.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t alignment{64};

  CacheLineAllocator() = default;
  template <class U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), alignment)); }
  void deallocate(T* data, size_t) { ::operator delete(data, alignment); }
  friend bool operator==(const CacheLineAllocator&, const CacheLineAllocator&) { return true; }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
