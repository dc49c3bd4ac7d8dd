// Shortest augmenting paths by a block: a thread keeps its columns in registers, with one barrier per scan.
//
// Every scan of a search waits for the nearest column of the last one, so the time of one scan counts:
//
// - loads of all columns of a thread go first, and nothing branches between them
// - a warp finds its nearest column by integer reductions, mostly one
// - the warps' results pass through shared memory, in two places that take turns
//
// Arithmetic, order and ties are those of the CPU kernel. With forbidden pairs there may be no path for a row. Then the
// block starts over with lexicographic.h's lengths: pairs given up, then cost. Every row gets a column of its own
// there.
#pragma once

#include <limits>
#include <type_traits>

#include "common/cuda_base.cuh"
#include "linear_sum_assignment/candidate.cuh"
#include "linear_sum_assignment/cost_matrix.cuh"

namespace maskformer_ext::cuda {

__device__ __forceinline__ double allowed_or_infinite(float cost) {
  return fabsf(cost) <= std::numeric_limits<float>::max() ? cost : std::numeric_limits<float>::infinity();
}
__device__ __forceinline__ double allowed_or_infinite(double cost) {
  const auto high = static_cast<unsigned>(__double_as_longlong(cost) >> 32) & 0x7ff00000u;
  return high != 0x7ff00000u ? cost : std::numeric_limits<double>::infinity();
}
template <class T>
__device__ __forceinline__ double allowed_or_infinite(T cost) {
  return allowed_or_infinite(as_float(cost));
}

// The arrays of a search, in shared memory.
template <class Doubles, class Indices, class AllIndices, class Candidates, class Integers, class Costs>
struct SearchArrays {
  Doubles& row_potential;
  Indices &row_given_up, &column_of_row;
  AllIndices &row_of_column, &predecessor;
  Indices& open;
  Candidates& nearest_of;
  Integers& given_up_of;
  Costs& copy;
};

// A block of kWarps warps for up to 32 * kWarps * kOwned columns. Thread t has columns t, t + 32 * kWarps and so on.
// With kMostRows above 0, costs of up to so many rows are copied to shared memory first.
template <int kWarps, int kOwned, int kMostRows, class T>
class BlockSearch {
 public:
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kColumns = kThreads * kOwned;

  // Solves the problem and calls answer(column_of_row, row_of_column). The second is the inverse, -1 for free columns.
  // All threads call it.
  template <class Answer>
  __device__ void solve(const CostMatrix<T>& matrix, Answer&& answer) {
    // Every row's own column follows the columns. 16 bits are enough for an index, and more columns fit so.
    MASKFORMER_EXT_SHARED(double, row_potential, kColumns);
    MASKFORMER_EXT_SHARED(int16_t, row_given_up, kColumns);
    MASKFORMER_EXT_SHARED(int16_t, column_of_row, kColumns);
    MASKFORMER_EXT_SHARED(int16_t, row_of_column, 2 * kColumns);
    MASKFORMER_EXT_SHARED(int16_t, predecessor, 2 * kColumns);
    MASKFORMER_EXT_SHARED(int16_t, open, kColumns);  // SciPy's list of open columns
    MASKFORMER_EXT_SHARED(Candidate, nearest_of, 2 * kWarps);
    MASKFORMER_EXT_SHARED(int, given_up_of, 2 * kWarps);
    MASKFORMER_EXT_SHARED(T, copy, kStaged ? kMostRows * kPitch : 1);
    const SearchArrays arrays{row_potential, row_given_up, column_of_row, row_of_column, predecessor,
                              open,          nearest_of,   given_up_of,   copy};
    if constexpr (kStaged) {
      // Neighbouring threads read neighbours in memory, along rows or columns. An odd pitch keeps banks apart for both.
      const int inner = matrix.column_step == 1 ? matrix.columns : matrix.rows, pairs = matrix.rows * matrix.columns;
      for (int i = threadIdx.x; i < pairs; i += kThreads) {
        const int slow = i / inner, fast = i - slow * inner;
        const int row = matrix.column_step == 1 ? slow : fast, column = matrix.column_step == 1 ? fast : slow;
        copy[row * kPitch + column] = matrix.cost[row * matrix.row_step + column * matrix.column_step];
      }
    }
    if (!match<false>(matrix, arrays)) {
      __syncthreads();
      match<true>(matrix, arrays);
      __syncthreads();
      if (threadIdx.x == 0) match_rest(matrix, column_of_row, row_of_column);
    }
    __syncthreads();
    answer(column_of_row, row_of_column);
  }

 private:
  static constexpr bool kStaged = kMostRows > 0;
  static constexpr int kPitch = kColumns + 1;
  // Signed numbers as unsigned ones that are ordered alike, and back.
  static __device__ unsigned order_of(int number) { return static_cast<unsigned>(number) ^ 0x80000000u; }
  static __device__ int of_order(unsigned ordered) { return static_cast<int>(ordered ^ 0x80000000u); }

  // Matches every row. Returns false where one finds no path, which kLexicographic excludes.
  template <bool kLexicographic, class Arrays>
  static __device__ bool match(const CostMatrix<T>& matrix, const Arrays& arrays) {
    constexpr int kSlots = kLexicographic ? 2 * kOwned : kOwned;  // columns of this thread, then rows' own ones
    const int columns = matrix.columns, thread = static_cast<int>(threadIdx.x);
    [[maybe_unused]] const T* costs = base_of(matrix.cost);
    double potential[kSlots];
    uint64_t distance[kSlots];  // ordered bits
    int given_up[kSlots], potential_given_up[kSlots];
    int row_of[kSlots];       // -1: free, or no column
    unsigned rank[kSlots];    // 0: closed, or no column; among equals, the largest goes first
    unsigned offset[kOwned];  // of the column in the costs
    const auto index_of = [&](int slot) { return thread + slot * kThreads; };  // kColumns + i: row i's own
    const auto is_there = [&](int slot) {
      return slot < kOwned ? index_of(slot) < columns : index_of(slot) - kColumns < matrix.rows;
    };
    // Free columns go before occupied ones. Of the free ones, the last of the list goes first; of the occupied ones,
    // the first.
    const auto rank_at = [&](int place, int its_row) {
      return static_cast<unsigned>(1 + (its_row < 0 ? columns + place : columns - 1 - place));
    };
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      potential[slot] = 0.0;
      potential_given_up[slot] = 0;
      arrays.row_of_column[index_of(slot)] = static_cast<int16_t>(-1);
    }
#pragma unroll
    for (int slot = 0; slot < kOwned; ++slot) {
      arrays.row_potential[index_of(slot)] = 0.0;
      arrays.row_given_up[index_of(slot)] = static_cast<int16_t>(0);
      arrays.column_of_row[index_of(slot)] = static_cast<int16_t>(-1);
      offset[slot] = static_cast<unsigned>(min(index_of(slot), columns - 1)) * (kStaged ? 1u : matrix.column_step);
    }
    int turn = 0;
    for (int start = 0; start < matrix.rows; ++start) {
      __syncthreads();  // the last row's augmentation is done
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot) {
        const int index = index_of(slot);
        distance[slot] = kLexicographic ? kNoDistance : ordered_bits(std::numeric_limits<double>::infinity());
        given_up[slot] = std::numeric_limits<int>::max();
        row_of[slot] = in_register(arrays.row_of_column[index]);
        rank[slot] =
            is_there(slot) ? (kLexicographic ? 2u * kColumns - index : rank_at(columns - 1 - index, row_of[slot])) : 0u;
        if (!kLexicographic && is_there(slot)) arrays.open[index] = static_cast<int16_t>(columns - 1 - index);
      }
      double base = 0.0;
      int base_given_up = 0, row = start, column = -1;
      for (int closed = 0;; ++closed) {
        T cost[kOwned];
        if constexpr (kStaged) {
#pragma unroll
          for (int slot = 0; slot < kOwned; ++slot) cost[slot] = arrays.copy[row * kPitch + offset[slot]];
        } else {
          const auto first = static_cast<unsigned>(row * matrix.row_step);
#pragma unroll
          for (int slot = 0; slot < kOwned; ++slot) cost[slot] = costs[first + offset[slot]];
        }
        const double row_potential = arrays.row_potential[row];
        const int row_given_up = kLexicographic ? arrays.row_given_up[row] : 0;
        Candidate candidates[kSlots];
        int least_given_up = std::numeric_limits<int>::max();
#pragma unroll
        for (int slot = 0; slot < kSlots; ++slot) {
          const bool own_column = slot >= kOwned;
          const double length = own_column ? 0.0 : allowed_or_infinite(cost[slot % kOwned]);
          const double through = base + length - row_potential - potential[slot];
          const uint64_t bits = ordered_bits(through);
          bool shorter;  // & and | take no branches
          int through_given_up = 0;
          if constexpr (kLexicographic) {
            through_given_up = base_given_up + (own_column ? 1 : 0) - row_given_up - potential_given_up[slot];
            const bool exists =
                own_column ? index_of(slot) - kColumns == row : length < std::numeric_limits<double>::infinity();
            shorter = exists & ((through_given_up < given_up[slot]) |
                                ((through_given_up == given_up[slot]) & (bits < distance[slot])));
          } else {
            shorter = bits < distance[slot];
            if constexpr (std::is_same_v<T, double>) shorter &= through == through;  // sums may overflow
          }
          shorter &= rank[slot] != 0;
          distance[slot] = shorter ? bits : distance[slot];
          given_up[slot] = shorter ? through_given_up : given_up[slot];
          if (shorter) arrays.predecessor[index_of(slot)] = static_cast<int16_t>(row);
          const bool is_open = rank[slot] != 0;
          candidates[slot] = {is_open ? static_cast<unsigned>(distance[slot] >> 32) : ~0u,
                              static_cast<unsigned>(distance[slot]),
                              rank[slot] << 16 | static_cast<unsigned>(index_of(slot)), row_of[slot]};
          if constexpr (kLexicographic) least_given_up = is_open ? min(least_given_up, given_up[slot]) : least_given_up;
        }
        if constexpr (kLexicographic) {
          least_given_up = of_order(__reduce_min_sync(kAllLanes, order_of(least_given_up)));
#pragma unroll
          for (int slot = 0; slot < kSlots; ++slot) {
            if (given_up[slot] != least_given_up) candidates[slot].high = ~0u;
          }
        }
        Candidate nearest = candidates[0];
        if (thread % 32 == first_of_warp(candidates, nearest)) {
          arrays.nearest_of[turn * kWarps + thread / 32] = nearest;
          if constexpr (kLexicographic) arrays.given_up_of[turn * kWarps + thread / 32] = least_given_up;
        }
        if constexpr (kWarps > 1) {
          __syncthreads();
        } else {
          __syncwarp();
        }
        Candidate of_warp[kWarps];
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) {
          of_warp[warp] = arrays.nearest_of[turn * kWarps + warp];
          of_warp[warp].row = in_register(of_warp[warp].row);
        }
        if constexpr (kLexicographic) {
          int of_warps[kWarps];
#pragma unroll
          for (int warp = 0; warp < kWarps; ++warp) of_warps[warp] = arrays.given_up_of[turn * kWarps + warp];
#pragma unroll
          for (int warp = 0; warp < kWarps; ++warp) least_given_up = min(least_given_up, of_warps[warp]);
#pragma unroll
          for (int warp = 0; warp < kWarps; ++warp) {
            if (of_warps[warp] != least_given_up) of_warp[warp].high = ~0u;
          }
          base_given_up = least_given_up;
        }
        nearest = first_of(of_warp);
        turn = 1 - turn;                                                     // who is late still reads this one
        if (!kLexicographic && nearest.high >= kInfiniteHigh) return false;  // the same in every thread
        column = static_cast<int>(nearest.place & 0xffffu);
        base = distance_of(nearest.distance());
        row = nearest.row;
        if (row < 0) break;
        if constexpr (kLexicographic) {
#pragma unroll
          for (int slot = 0; slot < kSlots; ++slot) rank[slot] = index_of(slot) == column ? 0u : rank[slot];
        } else {
          const int last = columns - 1 - closed, hole = columns - static_cast<int>(nearest.place >> 16);
          const int moved = arrays.open[last];
          if constexpr (kWarps == 1) __syncwarp();  // all have read what lane 0 writes; for several warps see below
#pragma unroll
          for (int slot = 0; slot < kSlots; ++slot) {
            const int index = index_of(slot);
            rank[slot] = index == moved ? rank_at(hole, row_of[slot]) : rank[slot];
            rank[slot] = index == column ? 0u : rank[slot];
          }
          // The list's end moves to the hole. Others may still read the end itself. It changes only where it is the
          // hole, and then nothing needs to move.
          if (thread == 0 && hole != last) arrays.open[hole] = static_cast<int16_t>(moved);
          if constexpr (kWarps == 1) __syncwarp();
        }
      }
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot) {
        if (rank[slot] != 0 || row_of[slot] < 0) continue;  // only what this search closed
        const double slack = base - distance_of(distance[slot]);
        arrays.row_potential[row_of[slot]] = arrays.row_potential[row_of[slot]] + slack;
        potential[slot] = potential[slot] - slack;
        if constexpr (kLexicographic) {
          const int more = base_given_up - given_up[slot];
          arrays.row_given_up[row_of[slot]] = static_cast<int16_t>(arrays.row_given_up[row_of[slot]] + more);
          potential_given_up[slot] -= more;
        }
      }
      __syncthreads();
      if (thread == 0) {
        arrays.row_potential[start] = arrays.row_potential[start] + base;
        if constexpr (kLexicographic) {
          arrays.row_given_up[start] = static_cast<int16_t>(arrays.row_given_up[start] + base_given_up);
        }
        for (int i = -1; i != start;) {
          i = arrays.predecessor[column];
          arrays.row_of_column[column] = static_cast<int16_t>(i);
          const int before = arrays.column_of_row[i];
          arrays.column_of_row[i] = static_cast<int16_t>(column);
          column = before;
        }
      }
    }
    return true;
  }

  // Pairs rows that took their own columns with free ones, in index order.
  template <class ColumnOfRow, class RowOfColumn>
  static __device__ void match_rest(const CostMatrix<T>& matrix, ColumnOfRow& column_of_row,
                                    RowOfColumn& row_of_column) {
    int column = 0;
    for (int row = 0; row < matrix.rows; ++row) {
      if (column_of_row[row] < kColumns) continue;
      while (row_of_column[column] >= 0) ++column;
      column_of_row[row] = static_cast<int16_t>(column);
      row_of_column[column] = static_cast<int16_t>(row);
    }
  }
};

}  // namespace maskformer_ext::cuda
