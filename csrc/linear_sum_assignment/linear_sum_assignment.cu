// Shortest augmenting paths on the GPU. First a block per problem (block_search.cuh); then a warp per problem that this
// left: those with more columns than a block holds, and those with forbidden pairs.
//
// The arithmetic, its order and SciPy's choice among equal distances are those of the CPU kernel, in double. The
// indices are therefore the same. What a warp needs for its problem lies in device memory.
#include "linear_sum_assignment/block_search.cuh"
#include "linear_sum_assignment/linear_sum_assignment.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = LinearSumAssignmentParams;
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

// What the block's search made of a problem; at the beginning of the problem's workspace.
enum State : int { kToDo, kSolved, kForbidden };

struct Shape {
  int targets;  // that are there
  bool transpose;

  __device__ Shape(const Params& params, int64_t problem) {
    const int64_t asked = params.num_targets[problem];
    targets = static_cast<int>(asked < 0 ? 0 : (asked > params.max_targets ? params.max_targets : asked));
    transpose = targets < params.num_queries;  // as SciPy, given (queries, targets)
  }

  template <class T>
  __device__ CostMatrix<T> matrix(const Params& params, int64_t problem) const {
    const int queries = static_cast<int>(params.num_queries), max_targets = static_cast<int>(params.max_targets);
    return {static_cast<const T*>(params.cost) + problem * queries * max_targets, transpose ? targets : queries,
            transpose ? queries : targets, transpose ? 1 : max_targets, transpose ? max_targets : 1};
  }
};

template <int kWarps, int kOwned, class T>
__global__ void __launch_bounds__(32 * kWarps) block_assignment_kernel(Params params, char* workspace) {
  const int64_t problem = blockIdx.x;
  const Shape shape(params, problem);
  BlockSearch<kWarps, kOwned, T> search;
  int64_t* query_of_target = params.query_of_target + problem * params.max_targets;
  const bool solved = search.solve(shape.matrix<T>(params, problem), [&](auto& column_of_row, auto& row_of_column) {
    for (int t = threadIdx.x; t < params.max_targets; t += 32 * kWarps) {
      int query = -1;
      if (t < shape.targets) query = shape.transpose ? column_of_row[t] : row_of_column[t];
      query_of_target[t] = query;
    }
  });
  if (threadIdx.x != 0) return;
  *reinterpret_cast<int*>(workspace +
                          problem * linear_sum_assignment_workspace(params.num_queries, params.max_targets)) =
      solved ? kSolved : kForbidden;
}

template <class T>
__global__ void __launch_bounds__(32, 8) warp_assignment_kernel(Params params, char* workspace, bool blocks_tried) {
  const int64_t problem = blockIdx.x;
  const int lane = threadIdx.x, queries = static_cast<int>(params.num_queries);
  const int max_targets = static_cast<int>(params.max_targets);
  workspace += problem * linear_sum_assignment_workspace(queries, max_targets);
  const int state = blocks_tried ? *reinterpret_cast<const int*>(workspace) : static_cast<int>(kToDo);
  if (state == kSolved) return;
  const Shape shape(params, problem);
  const int targets = shape.targets;
  const int most_rows = queries < max_targets ? queries : max_targets;
  const int most_columns = queries + max_targets;
  const CostMatrix<T> matrix = shape.matrix<T>(params, problem);

  Problem<T> p;
  p.cost = matrix.cost;
  p.rows = matrix.rows;
  p.columns = matrix.columns;
  p.row_step = matrix.row_step;
  p.column_step = matrix.column_step;
  p.row_potential = reinterpret_cast<Length*>(workspace + 16);
  p.column_potential = p.row_potential + most_rows;
  p.distance = p.column_potential + most_columns;
  p.predecessor = reinterpret_cast<int*>(p.distance + most_columns);
  p.row_of_column = p.predecessor + most_columns;
  p.column_of_row = p.row_of_column + most_columns;
  p.open = p.column_of_row + most_rows;
  p.place = p.open + most_columns;

  reset(p, lane);
  bool complete = state == kToDo;
  for (int row = 0; row < p.rows && complete; ++row) complete = augment<false>(p, row, lane);
  if (!complete) solve_with_forbidden_pairs(p, lane);
  const int* answer = shape.transpose ? p.column_of_row : p.row_of_column;
  int64_t* query_of_target = params.query_of_target + problem * max_targets;
  for (int t = lane; t < max_targets; t += 32) query_of_target[t] = t < targets ? answer[t] : -1;
}

template <class T>
void solve_all(const Params& params, int64_t problems, char* workspace, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>(problems);
  const int64_t columns = params.num_queries > params.max_targets ? params.num_queries : params.max_targets;
  const auto solve = [&](auto kernel, int warps) { launch(kernel, blocks, 32 * warps, stream, params, workspace); };
  bool tried = true;
  if (columns <= 32 * 2) {
    solve(block_assignment_kernel<1, 2, T>, 1);
  } else if (columns <= 32 * 4) {
    solve(block_assignment_kernel<1, 4, T>, 1);
  } else if (columns <= 128 * 3) {
    solve(block_assignment_kernel<4, 3, T>, 4);
  } else if (columns <= 256 * 4) {
    solve(block_assignment_kernel<8, 4, T>, 8);
  } else {
    tried = false;
  }
  launch(warp_assignment_kernel<T>, blocks, 32, stream, params, workspace, tried);
}

}  // namespace
}  // namespace cuda

void linear_sum_assignment_cuda(const LinearSumAssignmentParams& params, int64_t problems, char* workspace,
                                CUstream_st* stream) {
  if (problems == 0 || params.max_targets == 0) return;
  if (params.cost_dtype == DType::float64) return cuda::solve_all<double>(params, problems, workspace, stream);
  cuda::for_cuda_float_type(params.cost_dtype, [&](auto* pointer) {
    cuda::solve_all<std::remove_pointer_t<decltype(pointer)>>(params, problems, workspace, stream);
  });
}

}  // namespace maskformer_ext
