// The host stand-in for CUDA's header of this name: what the kernels use of the language and of its functions.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <source_location>

#include "cuda_runtime_api.h"
#include "host_cuda/fibers.h"
#include "host_cuda/global_memory.h"
#include "host_cuda/rounding.h"
#include "host_cuda/shared_array.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

// Whatever threads wait in knows where it was called. Those that wait for each other must have come to the same place.
using host_cuda_place = std::source_location;

inline void __syncthreads(const host_cuda_place& where = host_cuda_place::current()) {
  host_cuda::block().wait_block(where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, const host_cuda_place& where = host_cuda_place::current()) {
  host_cuda::block().wait_warp(mask, where, true);
}

namespace host_cuda {

// Every lane gives a value and takes that of lane source(own lane).
template <class T, class Source>
HOST_CUDA_OWN T exchange(unsigned mask, T value, Source source, const host_cuda_place& where) {
  static_assert(sizeof(T) <= 16);
  Block& b = block();
  const int thread = b.thread(), base = thread / kWarp * kWarp, lane = thread - base;
  const int set = b.next_set();
  std::memcpy(b.slot(thread, set), &value, sizeof(T));
  b.wait_warp(mask, where, false);
  const int from = source(lane) & (kWarp - 1);
  if (!(mask >> from & 1)) b.fail("a lane takes the value of a lane that does not take part");
  T result;
  std::memcpy(&result, b.slot(base + from, set), sizeof(T));
  return result;
}

// Every lane gives a value and takes those of all lanes.
template <class T>
HOST_CUDA_OWN void all_lanes(const T& value, T (&all)[kWarp],
                             const host_cuda_place& where = host_cuda_place::current()) {
  static_assert(sizeof(T) <= 16);
  Block& b = block();
  const int thread = b.thread(), base = thread / kWarp * kWarp;
  const int set = b.next_set();
  std::memcpy(b.slot(thread, set), &value, sizeof(T));
  b.wait_warp(0xffffffffu, where, false);
  for (int lane = 0; lane < kWarp; ++lane) std::memcpy(&all[lane], b.slot(base + lane, set), sizeof(T));
}

template <class T, class Combine>
HOST_CUDA_OWN T reduce(unsigned mask, T value, Combine combine, const host_cuda_place& where) {
  Block& b = block();
  const int thread = b.thread(), base = thread / kWarp * kWarp;
  const int set = b.next_set();
  std::memcpy(b.slot(thread, set), &value, sizeof(T));
  b.wait_warp(mask, where, false);
  bool first = true;
  T result{};
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(mask >> lane & 1)) continue;
    T other;
    std::memcpy(&other, b.slot(base + lane, set), sizeof(T));
    result = first ? other : combine(result, other);
    first = false;
  }
  return result;
}

}  // namespace host_cuda

template <class T>
T __shfl_sync(unsigned mask, T value, int source, const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::exchange(mask, value, [&](int) { return source; }, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::exchange(mask, value, [&](int lane) { return lane ^ bits; }, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::exchange(mask, value, [&](int lane) { return lane + int(by) < 32 ? lane + int(by) : lane; }, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::exchange(mask, value, [&](int lane) { return lane >= int(by) ? lane - int(by) : lane; }, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const host_cuda_place& where = host_cuda_place::current()) {
  const unsigned bit = predicate != 0 ? 1u << (host_cuda::block().thread() % host_cuda::kWarp) : 0u;
  return host_cuda::reduce(mask, bit, [](unsigned a, unsigned b) { return a | b; }, where);
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                  const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::reduce(mask, value, [](unsigned a, unsigned b) { return a + b; }, where);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value,
                                  const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::reduce(mask, value, [](unsigned a, unsigned b) { return std::min(a, b); }, where);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                  const host_cuda_place& where = host_cuda_place::current()) {
  return host_cuda::reduce(mask, value, [](unsigned a, unsigned b) { return std::max(a, b); }, where);
}
inline int __any_sync(unsigned mask, int predicate, const host_cuda_place& where = host_cuda_place::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const host_cuda_place& where = host_cuda_place::current()) {
  return __ballot_sync(mask, !predicate, where) == 0;
}

template <class T>
HOST_CUDA_OWN T atomicAdd(T* address, T value) {
  host_cuda::note_atomic(address, sizeof(T), std::is_floating_point_v<T>);
  const T before = *address;
  *address = before + value;
  return before;
}
template <class T>
HOST_CUDA_OWN T atomicMax(T* address, T value) {
  host_cuda::note_atomic(address, sizeof(T), std::is_floating_point_v<T>);
  const T before = *address;
  *address = std::max(before, value);
  return before;
}

template <class T>
HOST_CUDA_OWN T atomicOr(T* address, T value) {
  host_cuda::note_atomic(address, sizeof(T), std::is_floating_point_v<T>);
  const T before = *address;
  *address = before | value;
  return before;
}

template <class T>
HOST_CUDA_OWN T __ldg(const T* address) {
  host_cuda::note_read_only(address, sizeof(T));
  return *address;
}
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Errors in units in the last place, as the CUDA C++ Programming Guide lists them ("Mathematical Functions").
inline float __expf(float x) {
  return host_cuda::rounded(std::exp(double{x}), 2.0 + std::floor(std::abs(1.173 * x)), x);
}
inline float __fdividef(float x, float y) { return host_cuda::rounded(double{x} / y, 2.0, x, y); }
inline float __logf(float x) { return host_cuda::rounded(std::log(double{x}), 3.0, x); }
namespace maskformer_ext::cuda {
inline float expf(float x) { return host_cuda::rounded(std::exp(double{x}), 1.0, x); }
inline float logf(float x) { return host_cuda::rounded(std::log(double{x}), 1.0, x); }
inline float log1pf(float x) { return host_cuda::rounded(std::log1p(double{x}), 1.0, x); }
}  // namespace maskformer_ext::cuda

inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
using std::max;
using std::min;
