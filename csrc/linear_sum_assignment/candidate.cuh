// The nearest open column of a search on a GPU, found by comparing integers.
//
// Distances are kept as integers that are ordered alike. Only additions are in double: GeForce cards take long for
// those. A distance is never -0: a search starts at +0, and no later sum or difference can then be -0.
#pragma once

#include "common/cuda_block.cuh"

namespace maskformer_ext::cuda {

constexpr uint64_t kNoDistance = ~uint64_t{0};
constexpr unsigned kInfiniteHigh = 0xfff00000u;  // the high word of an infinite distance

__device__ __forceinline__ uint64_t ordered_bits(double distance) {
  const auto bits = static_cast<uint64_t>(__double_as_longlong(distance));
  const auto high = static_cast<unsigned>(bits >> 32), low = static_cast<unsigned>(bits);
  const auto sign = static_cast<unsigned>(static_cast<int>(high) >> 31);
  return static_cast<uint64_t>(high ^ (sign | 0x80000000u)) << 32 | (low ^ sign);
}

__device__ __forceinline__ double distance_of(uint64_t ordered) {
  return __longlong_as_double(static_cast<int64_t>(ordered >> 63 != 0 ? ordered & INT64_MAX : ~ordered));
}

// The least distance goes first, then the largest rank. `place` is the rank, which differs for every open column, above
// 16 bits for the column; 0: none.
struct Candidate {
  unsigned high, low, place;
  int row;  // of the column, -1 where it is free

  __device__ __forceinline__ uint64_t distance() const { return uint64_t{high} << 32 | low; }
  __device__ __forceinline__ bool before(const Candidate& other) const {
    const uint64_t own = distance(), others = other.distance();
    return (own < others) | ((own == others) & (place > other.place));  // without branches
  }
};

__device__ __forceinline__ bool is_one(unsigned lanes) { return (lanes & (lanes - 1)) == 0; }

// Returns which of these lanes have the largest value.
__device__ __forceinline__ unsigned lanes_of_largest(unsigned value, unsigned lanes) {
  const bool takes_part = (lanes >> threadIdx.x % 32 & 1u) != 0;
  const unsigned largest = __reduce_max_sync(kAllLanes, takes_part ? value : 0u);
  return __ballot_sync(kAllLanes, takes_part && value == largest);
}

// Finds the first of a warp's candidates, of which a lane has kSlots, and returns its lane. `nearest` is then that
// lane's. Mostly one of them has the least high word, and then one reduction is enough.
template <int kSlots>
__device__ __forceinline__ int first_of_warp(const Candidate (&own)[kSlots], Candidate& nearest) {
  unsigned least = own[0].high;
#pragma unroll
  for (int slot = 1; slot < kSlots; ++slot) least = min(least, own[slot].high);
  least = __reduce_min_sync(kAllLanes, least);
  int found = 0;
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const bool equal = own[slot].high == least;
    found += equal;
    nearest = equal ? own[slot] : nearest;
  }
  unsigned lanes = __ballot_sync(kAllLanes, found > 0);
  const unsigned with_several = __ballot_sync(kAllLanes, found > 1);
  if (with_several != 0 || !is_one(lanes)) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      if (own[slot].high == least && own[slot].before(nearest)) nearest = own[slot];
    }
    if (!is_one(lanes)) lanes = lanes_of_largest(~nearest.low, lanes);
    if (!is_one(lanes)) lanes = lanes_of_largest(nearest.place, lanes);
  }
  return __ffs(static_cast<int>(lanes)) - 1;
}

// Returns the first of the warps' candidates. Comparisons are a tree, so that they do not all wait for each other.
template <int kWarps>
__device__ __forceinline__ Candidate first_of(Candidate (&of_warp)[kWarps]) {
#pragma unroll
  for (int step = 1; step < kWarps; step *= 2) {
#pragma unroll
    for (int warp = 0; warp + step < kWarps; warp += 2 * step) {
      if (of_warp[warp + step].before(of_warp[warp])) of_warp[warp] = of_warp[warp + step];
    }
  }
  return of_warp[0];
}

}  // namespace maskformer_ext::cuda
