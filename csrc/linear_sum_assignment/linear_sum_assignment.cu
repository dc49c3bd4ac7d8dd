// Shortest augmenting paths on the GPU: a block per problem (block_search.cuh), or a warp where a block does not hold
// all columns (warp_search.cuh).
//
// The arithmetic, its order and SciPy's choice among equal distances are those of the CPU kernel, in double. The
// indices are therefore the same.
#include "linear_sum_assignment/linear_sum_assignment.h"

#include <algorithm>

#include "linear_sum_assignment/block_search.cuh"
#include "linear_sum_assignment/warp_search.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = LinearSumAssignmentParams;

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

template <int kWarps, int kOwned, int kMostRows, class T>
__global__ void __launch_bounds__(32 * kWarps, 1) block_assignment_kernel(Params params) {
  const int64_t problem = blockIdx.x;
  const Shape shape(params, problem);
  BlockSearch<kWarps, kOwned, kMostRows, T> search;
  int64_t* query_of_target = params.query_of_target + problem * params.max_targets;
  search.solve(shape.matrix<T>(params, problem), [&](auto& column_of_row, auto& row_of_column) {
    for (int t = threadIdx.x; t < params.max_targets; t += 32 * kWarps) {
      int query = -1;
      if (t < shape.targets && shape.transpose) query = column_of_row[t];
      if (t < shape.targets && !shape.transpose) query = row_of_column[t];
      query_of_target[t] = query;
    }
  });
}

template <class T>
__global__ void __launch_bounds__(32, 8) warp_assignment_kernel(Params params, char* workspace) {
  const int64_t problem = blockIdx.x;
  const int lane = threadIdx.x, queries = static_cast<int>(params.num_queries);
  const int max_targets = static_cast<int>(params.max_targets);
  workspace += problem * linear_sum_assignment_workspace(queries, max_targets);
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
  p.row_potential = reinterpret_cast<Length*>(workspace);
  p.column_potential = p.row_potential + most_rows;
  p.distance = p.column_potential + most_columns;
  p.predecessor = reinterpret_cast<int*>(p.distance + most_columns);
  p.row_of_column = p.predecessor + most_columns;
  p.column_of_row = p.row_of_column + most_columns;
  p.open = p.column_of_row + most_rows;
  p.place = p.open + most_columns;

  reset(p, lane);
  bool complete = true;
  for (int row = 0; row < p.rows && complete; ++row) complete = augment<false>(p, row, lane);
  if (!complete) solve_with_forbidden_pairs(p, lane);
  const int* answer = shape.transpose ? p.column_of_row : p.row_of_column;
  int64_t* query_of_target = params.query_of_target + problem * max_targets;
  for (int t = lane; t < max_targets; t += 32) query_of_target[t] = t < targets ? answer[t] : -1;
}

template <class T>
void solve_all(const Params& params, int64_t problems, char* workspace, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>(problems);
  const int64_t columns = std::max(params.num_queries, params.max_targets);
  const int64_t rows = std::min(params.num_queries, params.max_targets);
  constexpr int staged_rows = sizeof(T) <= 4 ? 64 : 0;  // of doubles, shared memory holds too few
  const auto solve = [&](auto kernel, int warps) { launch(kernel, blocks, 32 * warps, stream, params); };
  if (columns <= 32 * 2) {
    solve(block_assignment_kernel<1, 2, staged_rows, T>, 1);
  } else if (columns <= 32 * 4 && rows <= 64) {
    solve(block_assignment_kernel<1, 4, staged_rows, T>, 1);
  } else if (columns <= 128 * 3) {
    solve(block_assignment_kernel<4, 3, 0, T>, 4);
  } else if (columns <= 256 * 4) {
    solve(block_assignment_kernel<8, 4, 0, T>, 8);
  } else if (columns <= kMostBlockColumns) {
    solve(block_assignment_kernel<8, 8, 0, T>, 8);
  } else {
    launch(warp_assignment_kernel<T>, blocks, 32, stream, params, workspace);
  }
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
