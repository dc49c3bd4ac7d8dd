// Batched linear sum assignment: the contract of the kernels, torch-free.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct LinearSumAssignmentParams {
  const void* cost;            // (N, Q, T) contiguous, of cost_dtype; NaN and infinities forbid a pair
  DType cost_dtype;            // float32, bfloat16, float16 or float64
  const int64_t* num_targets;  // (N,) in [0, T]: how many columns exist
  int64_t num_queries;         // Q
  int64_t max_targets;         // T
  int64_t* query_of_target;    // (N, T) out: the query of each target, -1 for padding and the unmatched
};

// Solves problems [begin, end) of the N.
MASKFORMER_EXT_CPU_KERNEL(linear_sum_assignment, const LinearSumAssignmentParams& params, int64_t begin, int64_t end);

// The same on a GPU, for all N problems. Counts outside [0, T] are clamped. `workspace` is N times as many bytes as
// below.
void linear_sum_assignment_cuda(const LinearSumAssignmentParams& params, int64_t problems, char* workspace,
                                CUstream_st* stream);

// Queries or targets, whichever are more, of a problem that a block holds in registers and shared memory.
inline constexpr int64_t kMostBlockColumns = 2048;

constexpr int64_t linear_sum_assignment_workspace(int64_t queries, int64_t targets) {
  if (queries <= kMostBlockColumns && targets <= kMostBlockColumns) return 0;
  const int64_t rows = queries < targets ? queries : targets, columns = queries + targets;
  return (rows + 2 * columns) * 16 + (4 * columns + rows + 4) / 4 * 16;
}

}  // namespace maskformer_ext
