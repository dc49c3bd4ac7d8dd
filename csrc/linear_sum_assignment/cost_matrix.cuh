// The costs of one problem as the searches on a GPU read them: rows at most as many as columns.
#pragma once

#include "common/cuda_types.cuh"

namespace maskformer_ext::cuda {

template <class T>
struct CostMatrix {
  const T* cost;
  int rows, columns, row_step, column_step;
};

}  // namespace maskformer_ext::cuda
