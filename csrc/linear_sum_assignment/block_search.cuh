// Shortest augmenting paths by a block: a thread keeps its columns in registers, with one barrier per scan.
//
// Every scan of a search waits for the nearest column of the last one, so the time of one scan counts:
//
// - the columns are spread over warps
// - a warp finds its nearest column by integer reductions
// - the warps' results pass through shared memory, in two places that take turns
//
// Arithmetic, order and ties are those of the CPU kernel. Forbidden pairs are left to the other search.
#pragma once

#include <limits>

#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"

namespace maskformer_ext::cuda {

// One problem, rows at most as many as columns.
template <class T>
struct CostMatrix {
  const T* cost;
  int rows, columns, row_step, column_step;

  __device__ __forceinline__ double entry(int row, int column) const {
    return as_double(cost[int64_t{row} * row_step + int64_t{column} * column_step]);
  }
};

// A candidate for the nearest column. The least distance goes first, as an integer that is ordered alike; among equals
// the largest rank.
struct Candidate {
  unsigned high, low, rank;  // rank 0: none
  int column;

  __device__ __forceinline__ bool before(const Candidate& other) const {
    if (high != other.high) return high < other.high;
    if (low != other.low) return low < other.low;
    return rank > other.rank;
  }
};

__device__ __forceinline__ void order_bits(double distance, Candidate& candidate) {
  const int64_t bits = __double_as_longlong(distance + 0.0);  // there is one zero
  const auto ordered = static_cast<uint64_t>(bits < 0 ? ~bits : bits | INT64_MIN);
  candidate.high = static_cast<unsigned>(ordered >> 32);
  candidate.low = static_cast<unsigned>(ordered);
}

__device__ __forceinline__ double distance_of(const Candidate& candidate) {
  const uint64_t ordered = uint64_t{candidate.high} << 32 | candidate.low;
  return __longlong_as_double(static_cast<int64_t>(ordered >> 63 != 0 ? ordered & INT64_MAX : ~ordered));
}

// Returns the first of a warp's candidates, in every lane. Ranks differ.
__device__ __forceinline__ Candidate first_of_warp(const Candidate& own) {
  Candidate first;
  first.high = __reduce_min_sync(kAllLanes, own.high);
  bool mine = own.high == first.high;
  first.low = __reduce_min_sync(kAllLanes, mine ? own.low : 0xffffffffu);
  mine = mine && own.low == first.low;
  first.rank = __reduce_max_sync(kAllLanes, mine ? own.rank : 0u);
  const unsigned owners = __ballot_sync(kAllLanes, mine && own.rank == first.rank);
  first.column = __shfl_sync(kAllLanes, own.column, __ffs(static_cast<int>(owners)) - 1);
  return first;
}

// A block of kWarps warps for up to 32 * kWarps * kOwned columns. Thread t has columns t, t + 32 * kWarps and so on.
template <int kWarps, int kOwned, class T>
class BlockSearch {
 public:
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kColumns = kThreads * kOwned;

  // Solves the problem and calls answer(column_of_row, row_of_column). The second is the inverse, -1 for free columns.
  // Returns false where a row finds no allowed path. All threads call it.
  template <class Answer>
  __device__ bool solve(const CostMatrix<T>& matrix, Answer&& answer) {
    MASKFORMER_EXT_SHARED(double, row_potential, kColumns);
    MASKFORMER_EXT_SHARED(int, column_of_row, kColumns);
    MASKFORMER_EXT_SHARED(int, row_of_column, kColumns);
    MASKFORMER_EXT_SHARED(int, predecessor, kColumns);
    MASKFORMER_EXT_SHARED(int, open, kColumns);  // SciPy's list of open columns
    MASKFORMER_EXT_SHARED(Candidate, nearest_of, 2 * kWarps);
    const int columns = matrix.columns;
    double potential[kOwned], distance[kOwned];
    int place[kOwned];  // in the list, -1 once closed
    bool free[kOwned];
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      const int j = threadIdx.x + i * kThreads;
      potential[i] = 0.0;
      row_potential[j] = 0.0;
      column_of_row[j] = row_of_column[j] = -1;
    }
    int turn = 0;
    for (int start = 0; start < matrix.rows; ++start) {
      __syncthreads();  // the last row's augmentation is done
#pragma unroll
      for (int i = 0; i < kOwned; ++i) {
        const int j = threadIdx.x + i * kThreads;
        distance[i] = std::numeric_limits<double>::infinity();
        place[i] = j < columns ? columns - 1 - j : -1;
        free[i] = row_of_column[j] < 0;
        if (j < columns) open[j] = columns - 1 - j;
      }
      double base = 0.0;
      int row = start, column = -1;
      for (int closed = 0;; ++closed) {
        const double own_potential = row_potential[row];
        Candidate nearest = {0xffffffffu, 0xffffffffu, 0u, -1};
#pragma unroll
        for (int i = 0; i < kOwned; ++i) {
          if (place[i] < 0) continue;
          const int j = threadIdx.x + i * kThreads;
          const double cost = matrix.entry(row, j);
          const double through = base + cost - own_potential - potential[i];
          if (cost - cost == 0.0 && through < distance[i]) {
            distance[i] = through;
            predecessor[j] = row;
          }
          // Free columns go before occupied ones. Of the free ones, the last of the list goes first; of the occupied
          // ones, the first.
          Candidate candidate = {0u, 0u, 1u + (free[i] ? columns + place[i] : columns - 1 - place[i]), j};
          order_bits(distance[i], candidate);
          if (distance[i] < std::numeric_limits<double>::infinity() && candidate.before(nearest)) nearest = candidate;
        }
        nearest = first_of_warp(nearest);
        if constexpr (kWarps > 1) {
          if (threadIdx.x % 32 == 0) nearest_of[turn * kWarps + threadIdx.x / 32] = nearest;
          __syncthreads();
          for (int warp = 0; warp < kWarps; ++warp) {
            const Candidate other = nearest_of[turn * kWarps + warp];
            if (other.before(nearest)) nearest = other;
          }
          turn = 1 - turn;  // who is late still reads this one
        } else {
          __syncwarp();
        }
        if (nearest.rank == 0) return false;  // the same in every thread
        column = nearest.column;
        base = distance_of(nearest);
        row = row_of_column[column];
        if (row < 0) break;
        const int rank = static_cast<int>(nearest.rank) - 1, last = columns - 1 - closed;
        const int hole = rank >= columns ? rank - columns : columns - 1 - rank, moved = open[last];
        if constexpr (kWarps == 1) __syncwarp();  // all have read what lane 0 writes; for several warps see below
#pragma unroll
        for (int i = 0; i < kOwned; ++i) {
          const int j = threadIdx.x + i * kThreads;
          if (j == moved) place[i] = hole;
          if (j == column) place[i] = -1;
        }
        // The list's end moves to the hole. Others may still read the end itself. It changes only where it is the hole,
        // and then nothing needs to move.
        if (threadIdx.x == 0 && hole != last) open[hole] = moved;
        if constexpr (kWarps == 1) __syncwarp();
      }
#pragma unroll
      for (int i = 0; i < kOwned; ++i) {
        const int j = threadIdx.x + i * kThreads;
        if (j >= columns || place[i] >= 0) continue;
        const double slack = base - distance[i];
        const int its_row = row_of_column[j];
        row_potential[its_row] = row_potential[its_row] + slack;
        potential[i] = potential[i] - slack;
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        row_potential[start] = row_potential[start] + base;
        for (int i = -1; i != start;) {
          i = predecessor[column];
          row_of_column[column] = i;
          const int before = column_of_row[i];
          column_of_row[i] = column;
          column = before;
        }
      }
    }
    __syncthreads();
    answer(column_of_row, row_of_column);
    return true;
  }
};

}  // namespace maskformer_ext::cuda
