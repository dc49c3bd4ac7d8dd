// CUDA kernel of box_matching_cost: a warp per query, with a lane per object of its image.
#include <cmath>

#include "box_matching_cost/box_matching_cost.h"
#include "box_matching_cost/pair_cost.h"
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = BoxMatchingCostParams;
constexpr int kThreads = 128;
constexpr int kRowsPerBlock = kThreads / 32;

// What the softmax of a row is made of. A NaN may hide from the maximum, but not from the sum.
struct Softmax {
  float largest, inverse_sum;
};

template <class T>
__device__ Softmax softmax_of(const T* logits, int classes, int lane) {
  float largest = -INFINITY;
  for (int k = lane; k < classes; k += 32) {
    const float x = as_float(logits[k]);
    largest = x > largest ? x : largest;
  }
  for (int bits = 16; bits > 0; bits /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, largest, bits);
    largest = other > largest ? other : largest;
  }
  float sum = 0.0f;
  for (int k = lane; k < classes; k += 32) sum += expf(as_float(logits[k]) - largest);
  return {largest, 1.0f / warp_sum(sum)};
}

// gamma is the same for all threads, so the branch costs nothing.
__device__ __forceinline__ float focal_cost(const Params& p, float x) {
  if (p.gamma == 2.0f) return focal_class_cost<Gamma::two>(x, p.alpha_positive, p.alpha_negative, p.gamma);
  if (p.gamma == 0.0f) return focal_class_cost<Gamma::zero>(x, p.alpha_positive, p.alpha_negative, p.gamma);
  return focal_class_cost<Gamma::general>(x, p.alpha_positive, p.alpha_negative, p.gamma);
}

template <class Logit, class Coordinate>
__global__ void __launch_bounds__(kThreads) box_matching_cost_fwd_kernel(Params p) {
  const int lane = threadIdx.x % 32;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (row >= p.rows) return;  // a whole warp
  const int64_t image = row / p.queries % p.images;
  const auto* logits = static_cast<const Logit*>(p.logits) + row * p.classes;
  const auto* query = static_cast<const Coordinate*>(p.boxes) + row * 4;
  const Box<float> box = {as_float(query[0]), as_float(query[1]), as_float(query[2]), as_float(query[3])};
  Softmax softmax = {0.0f, 0.0f};
  if (p.softmax) softmax = softmax_of(logits, static_cast<int>(p.classes), lane);
  const int64_t counted = p.num_segments[image];
  for (int64_t t = lane; t < p.targets; t += 32) {
    float* cost = p.cost + row * p.targets + t;
    if (t >= counted) {
      *cost = 0.0f;
      continue;
    }
    const int64_t place = image * p.targets + t, label = p.labels[place];
    if (label < 0 || label >= p.classes) {
      *cost = INFINITY;
      continue;
    }
    const float* target = p.target_boxes + place * 4;
    const Box<float> object = {target[0], target[1], target[2], target[3]};
    const float x = as_float(logits[label]);
    const float of_class = p.softmax ? -softmax.inverse_sum * expf(x - softmax.largest) : focal_cost(p, x);
    *cost = finite_or_infinity(p.class_weight * of_class + box_cost(box, object, p.box_weight, p.giou_weight));
  }
}

template <class Pointer>
using Pointee = std::remove_pointer_t<Pointer>;

}  // namespace
}  // namespace cuda

void box_matching_cost_fwd_cuda(const BoxMatchingCostParams& params, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>((params.rows + cuda::kRowsPerBlock - 1) / cuda::kRowsPerBlock);
  cuda::for_cuda_float_type(params.logits_dtype, [&](auto* logit) {
    cuda::for_cuda_float_type(params.boxes_dtype, [&](auto* coordinate) {
      using Logit = cuda::Pointee<decltype(logit)>;
      using Coordinate = cuda::Pointee<decltype(coordinate)>;
      cuda::launch(cuda::box_matching_cost_fwd_kernel<Logit, Coordinate>, blocks, cuda::kThreads, stream, params);
    });
  });
}

}  // namespace maskformer_ext
