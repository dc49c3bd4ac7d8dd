// Choosing uncertain points on a GPU: what the launcher takes. Torch-free.
//
// All threads sample the candidates. Then a block per mask finds the bound of the chosen ones by counting digits, which
// needs integer atomics only, and copies them in order. Results therefore never depend on which thread came first.
#pragma once

#include "uncertain_points/uncertain_points.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

struct UncertainPointsCudaParams {
  UncertainPointsParams call;  // with pointers to device memory
  int32_t* keys;               // (N, M) workspace: the bits of |logit|
};

void uncertain_points_cuda(const UncertainPointsCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
