// CUDA kernels of uncertain_points.
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/point_sample.cuh"
#include "uncertain_points/uncertain_points_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = UncertainPointsCudaParams;
constexpr int kSampleThreads = 256;
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kDigits = 2048;         // of the first 11 bits; the other digits have 10
constexpr int32_t kLast = INT32_MAX;  // NaN comes after all numbers

template <class Logit>
__global__ void __launch_bounds__(kSampleThreads) uncertain_points_keys_kernel(Params params) {
  const UncertainPointsParams& p = params.call;
  const int64_t mask = blockIdx.x;
  const auto* logits = static_cast<const Logit*>(p.logits) + mask * p.mask_stride;
  for (int64_t i = blockIdx.y * int64_t{kSampleThreads} + threadIdx.x; i < p.num_candidates;
       i += int64_t{gridDim.y} * kSampleThreads) {
    const float* point = p.candidates + 2 * (mask * p.num_candidates + i);
    const float logit = sample_map(logits, point_taps(point[0], point[1], p.height, p.width, p.row_stride));
    params.keys[mask * p.num_candidates + i] = logit == logit ? float_bits(logit) & INT32_MAX : kLast;
  }
}

// Copies the chosen candidates of a mask, in their order.
__global__ void __launch_bounds__(kThreads) uncertain_points_choose_kernel(Params params) {
  MASKFORMER_EXT_SHARED(int, counts, kDigits);
  MASKFORMER_EXT_SHARED(int, found, 2);        // a digit, and how many keys come before it
  MASKFORMER_EXT_SHARED(int, totals, kWarps);  // of warps: smaller keys, and equal ones in the upper half
  const UncertainPointsParams& p = params.call;
  const int64_t mask = blockIdx.x;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int candidates = static_cast<int>(p.num_candidates);
  const int32_t* keys = params.keys + mask * p.num_candidates;

  int32_t bound = 0;  // its digits found so far, and 0 below
  int rank = static_cast<int>(p.count);
  for (int digit = 0; digit < 3; ++digit) {
    const int shift = 20 - 10 * digit, upper = shift + 10;
    const int digits = digit == 0 ? kDigits : kDigits / 2;
    for (int i = tid; i < digits; i += kThreads) counts[i] = 0;
    __syncthreads();
    for (int i = tid; i < candidates; i += kThreads) {
      const int32_t key = keys[i];
      if (digit == 0 || key >> upper == bound >> upper) atomic_add(counts[(key >> shift) & (digits - 1)], 1);
    }
    __syncthreads();
    if (warp == 0) {
      const int each = digits / 32;
      int own = 0;
      // Lanes begin at different places of their part, so that they want different banks.
      for (int i = 0; i < each; ++i) own += counts[lane * each + (i + lane) % each];
      int before = own;  // of this lane and those below, then of those below
      for (int by = 1; by < 32; by *= 2) {
        const int other = __shfl_up_sync(kAllLanes, before, by);
        if (lane >= by) before += other;
      }
      before -= own;
      if (before < rank && rank <= before + own) {
        int i = lane * each;
        for (int here = counts[i]; before + here < rank; here = counts[i]) {
          before += here;
          ++i;
        }
        found[0] = i;
        found[1] = before;
      }
    }
    __syncthreads();
    bound |= found[0] << shift;
    rank -= found[1];  // the next digit passes two barriers before it is found
  }

  // `rank` is now how many keys that equal the bound are chosen.
  const float* from = p.candidates + 2 * mask * p.num_candidates;
  float* to = p.chosen + 2 * mask * p.count;
  int smaller_before = 0, equal_before = 0;
  int32_t next = tid < candidates ? keys[tid] : kLast;
  for (int begin = 0; begin < candidates; begin += kThreads) {
    const int i = begin + tid;
    const int32_t key = next;
    next = i + kThreads < candidates ? keys[i + kThreads] : kLast;  // is on its way while this round waits at barriers
    const bool smaller = i < candidates && key < bound, equal = i < candidates && key == bound;
    const unsigned smaller_lanes = __ballot_sync(kAllLanes, smaller), equal_lanes = __ballot_sync(kAllLanes, equal);
    __syncthreads();  // the totals before are no longer read
    if (lane == 0) totals[warp] = __popc(smaller_lanes) | __popc(equal_lanes) << 16;
    __syncthreads();
    int before = 0, all = 0;
    for (int other = 0; other < kWarps; ++other) {
      const int total = totals[other];
      if (other < warp) before += total;
      all += total;
    }
    const unsigned lower = (1u << lane) - 1;
    const int smaller_rank = smaller_before + (before & 0xffff) + __popc(smaller_lanes & lower);
    const int equal_rank = equal_before + (before >> 16) + __popc(equal_lanes & lower);
    if (smaller || (equal && equal_rank < rank)) {
      const int place = smaller_rank + (equal_rank < rank ? equal_rank : rank);
      to[2 * place] = from[2 * i];
      to[2 * place + 1] = from[2 * i + 1];
    }
    smaller_before += all & 0xffff;
    equal_before += all >> 16;
  }
}

}  // namespace
}  // namespace cuda

void uncertain_points_cuda(const UncertainPointsCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const UncertainPointsParams& p = params.call;
  if (p.masks == 0 || p.count == 0) return;
  const int64_t parts = (p.num_candidates + kSampleThreads - 1) / kSampleThreads;
  const dim3 grid(static_cast<unsigned>(p.masks), static_cast<unsigned>(parts < 1024 ? parts : 1024));
  for_cuda_float_type(p.dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    launch(uncertain_points_keys_kernel<Logit>, grid, kSampleThreads, stream, params);
  });
  launch(uncertain_points_choose_kernel, static_cast<unsigned>(p.masks), kThreads, stream, params);
}

}  // namespace maskformer_ext
