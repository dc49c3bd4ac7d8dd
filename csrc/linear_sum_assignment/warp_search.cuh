// Shortest augmenting paths by a warp, for problems with more columns than a block holds. What it needs lies in device
// memory.
//
// Arithmetic, order and ties are those of the CPU kernel.
#pragma once

#include <limits>

#include "common/cuda_block.cuh"
#include "linear_sum_assignment/cost_matrix.cuh"

namespace maskformer_ext::cuda {

constexpr int kFar = 0x7fffffff;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A path's length: pairs given up, then cost. Without forbidden pairs only the second counts.
struct Length {
  double cost;
  int given_up;
};

template <bool kLexicographic>
__device__ __forceinline__ bool shorter(const Length& a, const Length& b) {
  if (kLexicographic && a.given_up != b.given_up) return a.given_up < b.given_up;
  return a.cost < b.cost;
}

__device__ __forceinline__ Length operator+(Length a, Length b) { return {a.cost + b.cost, a.given_up + b.given_up}; }
__device__ __forceinline__ Length operator-(Length a, Length b) { return {a.cost - b.cost, a.given_up - b.given_up}; }

// One problem, rows at most as many as columns. In the lexicographic search every row also has a column of its own.
template <class T>
struct Problem {
  const T* cost;
  int rows, columns, row_step, column_step;
  Length *row_potential, *column_potential, *distance;
  int *predecessor, *row_of_column, *column_of_row;
  int *open, *place;  // SciPy's list of open columns, and each column's place in it, -1 once closed

  // False where the pair is forbidden.
  __device__ __forceinline__ bool entry(int row, int column, Length* length) const {
    if (column >= columns) {
      *length = {0.0, 1};
      return column - columns == row;
    }
    const double c = as_double(cost[row * row_step + column * column_step]);
    *length = {c, 0};
    return c - c == 0.0;
  }
};

struct Nearest {
  Length length;
  int rank;  // the largest goes first among equals
  int column;
};

template <bool kLexicographic>
__device__ __forceinline__ Nearest nearest_of_warp(Nearest mine) {
  for (int bits = 16; bits > 0; bits /= 2) {
    Nearest other;
    other.length.cost = __shfl_xor_sync(kAllLanes, mine.length.cost, bits);
    other.length.given_up = kLexicographic ? __shfl_xor_sync(kAllLanes, mine.length.given_up, bits) : 0;
    other.rank = __shfl_xor_sync(kAllLanes, mine.rank, bits);
    other.column = __shfl_xor_sync(kAllLanes, mine.column, bits);
    const bool equal =
        !shorter<kLexicographic>(mine.length, other.length) && !shorter<kLexicographic>(other.length, mine.length);
    if (shorter<kLexicographic>(other.length, mine.length) || (equal && other.rank > mine.rank)) mine = other;
  }
  return mine;
}

// Shortens the distances of the open columns through a row. Returns the nearest one, column -1 where none is reached.
template <bool kLexicographic, class T>
__device__ __forceinline__ Nearest scan(const Problem<T>& p, int all_columns, int row, Length base, int lane) {
  Nearest nearest = {{kInfinity, kFar}, -1, -1};
  const Length row_potential = p.row_potential[row];
  for (int j = lane; j < all_columns; j += 32) {
    const int place = p.place[j];
    if (place < 0) continue;
    Length length, distance = p.distance[j];
    if (p.entry(row, j, &length)) {
      const Length through = base + length - row_potential - p.column_potential[j];
      if (shorter<kLexicographic>(through, distance)) {
        p.distance[j] = distance = through;
        p.predecessor[j] = row;
      }
    }
    if (distance.given_up == kFar) continue;
    const bool free = p.row_of_column[j] < 0;
    const int rank = kLexicographic ? all_columns - j : (free ? p.columns + place : p.columns - 1 - place);
    const bool equal =
        !shorter<kLexicographic>(distance, nearest.length) && !shorter<kLexicographic>(nearest.length, distance);
    if (nearest.column < 0 || shorter<kLexicographic>(distance, nearest.length) || (equal && rank > nearest.rank)) {
      nearest = {distance, rank, j};
    }
  }
  return nearest_of_warp<kLexicographic>(nearest);
}

// Finds the shortest path from a row to a free column and augments along it. Returns false if there is none.
template <bool kLexicographic, class T>
__device__ __forceinline__ bool augment(const Problem<T>& p, int start, int lane) {
  const int all_columns = kLexicographic ? p.columns + p.rows : p.columns;
  for (int j = lane; j < all_columns; j += 32) {
    p.distance[j] = {kInfinity, kFar};
    p.open[j] = p.place[j] = all_columns - 1 - j;
  }
  __syncwarp();
  Length base = {0.0, 0};
  int row = start, column = -1;
  for (int closed = 0;; ++closed) {
    const Nearest nearest = scan<kLexicographic>(p, all_columns, row, base, lane);
    __syncwarp();  // what the scan read is written below; shuffles alone do not order accesses to memory
    if (nearest.column < 0) return false;
    column = nearest.column;
    base = nearest.length;
    row = p.row_of_column[column];
    if (row < 0) break;
    if (lane == 0) {
      const int moved = p.open[all_columns - 1 - closed], place = p.place[column];
      p.open[place] = moved;
      p.place[moved] = place;
      p.place[column] = -1;
    }
    __syncwarp();
  }
  for (int j = lane; j < all_columns; j += 32) {
    if (p.place[j] >= 0) continue;
    const Length slack = base - p.distance[j];
    p.row_potential[p.row_of_column[j]] = p.row_potential[p.row_of_column[j]] + slack;
    p.column_potential[j] = p.column_potential[j] - slack;
  }
  __syncwarp();
  if (lane == 0) {
    p.row_potential[start] = p.row_potential[start] + base;
    for (int i = -1; i != start;) {
      i = p.predecessor[column];
      p.row_of_column[column] = i;
      const int before = p.column_of_row[i];
      p.column_of_row[i] = column;
      column = before;
    }
  }
  __syncwarp();
  return true;
}

template <class T>
__device__ __forceinline__ void reset(const Problem<T>& p, int lane) {
  for (int i = lane; i < p.rows; i += 32) {
    p.row_potential[i] = {0.0, 0};
    p.column_of_row[i] = -1;
  }
  for (int j = lane; j < p.columns + p.rows; j += 32) {
    p.column_potential[j] = {0.0, 0};
    p.row_of_column[j] = -1;
  }
  __syncwarp();
}

// As many allowed pairs as possible at the least cost; the rest is paired in index order.
template <class T>
__device__ __forceinline__ void solve_with_forbidden_pairs(const Problem<T>& p, int lane) {
  reset(p, lane);
  for (int row = 0; row < p.rows; ++row) augment<true>(p, row, lane);
  if (lane == 0) {
    int column = 0;
    for (int row = 0; row < p.rows; ++row) {
      if (p.column_of_row[row] < p.columns) continue;
      while (p.row_of_column[column] >= 0) ++column;
      p.column_of_row[row] = column;
      p.row_of_column[column] = row;
    }
  }
  __syncwarp();
}

}  // namespace maskformer_ext::cuda
