// CUDA kernels of point_mask_loss, forward and backward.
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "common/point_sample.cuh"
#include "dice_loss/dice_from_sums.h"
#include "point_mask_loss/point_mask_loss_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PointMaskLossCudaParams;
using GradParams = PointMaskLossGradCudaParams;
constexpr int kThreads = Params::kThreads;
constexpr int kPointsPerBlock = Params::kPointsPerBlock;

// The target that a mask is compared with. There is none where its image or segment does not exist.
struct Target {
  bool paired;
  int64_t segment;
  int64_t plane;  // offset of its first element
};

__device__ Target target_of(const Params& p, int64_t mask) {
  const int64_t image = p.image_index[mask], segment = p.segment_index[mask];
  const bool paired = image >= 0 && image < p.images && segment >= 0 && segment < p.num_segments[image] &&
                      (p.is_map || segment < p.segments);
  return {paired, segment, image * p.target_image_stride + (p.is_map ? 0 : segment * p.target_plane_stride)};
}

// Reads the pixels of a target. The kind is the same for all threads, and chosen once for all taps: loads in branches
// of their own would wait for each other.
__device__ __forceinline__ void load_target(const Params& p, const Target& target, const PointTaps& taps,
                                            float (&value)[4]) {
  const auto each = [&](const auto* targets, const auto& value_of) {
    targets += target.plane;
#pragma unroll
    for (int tap = 0; tap < 4; ++tap) value[tap] = value_of(targets[taps.index[tap]]);
  };
  if (p.is_map) {
    const auto holds = [&](int64_t id) { return id == target.segment ? 1.0f : 0.0f; };
    if (p.wide) return each(static_cast<const int32_t*>(p.targets), holds);
    return each(static_cast<const int16_t*>(p.targets), holds);
  }
  const auto number = [](auto pixel) { return as_float(pixel); };
  switch (p.target_dtype) {
    case DType::float32:
      return each(static_cast<const float*>(p.targets), number);
    case DType::bfloat16:
      return each(static_cast<const __nv_bfloat16*>(p.targets), number);
    case DType::float16:
      return each(static_cast<const __half*>(p.targets), number);
    default:
      each(static_cast<const uint8_t*>(p.targets), [](uint8_t flag) { return flag != 0 ? 1.0f : 0.0f; });
  }
}

__device__ __forceinline__ PointTaps target_taps(const Params& p, float x, float y) {
  if (!p.nearest) return point_taps(x, y, p.target_height, p.target_width, p.target_row_stride);
  const int64_t pixel = nearest_pixel(x, y, p.target_height, p.target_width, p.target_row_stride);
  PointTaps taps = {};
  taps.index[0] = pixel < 0 ? 0 : pixel;
  taps.weight[0] = pixel < 0 ? 0.0f : 1.0f;
  return taps;
}

// What a mask and its target are at a point.
struct Sample {
  float logit, target;
};

template <class Logit>
__device__ __forceinline__ Sample sample_at(const Params& p, const Logit* logits, const Target& target, int64_t place) {
  const float x = p.points[2 * place], y = p.points[2 * place + 1];
  const PointTaps of_logits = point_taps(x, y, p.height, p.width, p.row_stride), of_target = target_taps(p, x, y);
  float logit[4], value[4];
  load_taps(logits, of_logits, logit);
  load_target(p, target, of_target, value);
  return {blend_taps(of_logits.weight, logit), blend_taps(of_target.weight, value)};
}

template <class Logit>
__global__ void __launch_bounds__(kThreads) point_mask_loss_sums_kernel(Params p) {
  const int64_t mask = blockIdx.x / p.blocks(), block = blockIdx.x % p.blocks();
  const Target target = target_of(p, mask);
  const auto* logits = static_cast<const Logit*>(p.logits) + mask * p.mask_stride;
  float sums[kPointSums] = {};
  const int64_t end = min((block + 1) * kPointsPerBlock, p.num_points);
  for (int64_t i = block * kPointsPerBlock + threadIdx.x; target.paired && i < end; i += kThreads) {
    const auto [logit, t] = sample_at(p, logits, target, mask * p.num_points + i);
    const SoftPixel<float> soft = soft_pixel<Gamma::zero>(logistic(logit), t, 1.0f, 1.0f, 0.0f);
    sums[kPointLoss] += soft.loss;
    sums[kPointWrong] += soft.missing + soft.excess;
    sums[kPointMissing] += soft.missing;
    sums[kPointInside] += t;
  }
  for (int i = 0; i < kPointSums; ++i) {
    const double total = block_reduce<kThreads>(static_cast<double>(sums[i]), Add());
    if (threadIdx.x == 0) p.sums[int64_t{blockIdx.x} * kPointSums + i] = total;
  }
}

// Combines a mask's blocks in their order, one mask per thread.
__global__ void __launch_bounds__(kThreads) point_mask_loss_finish_kernel(Params p) {
  const int64_t mask = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (mask >= p.masks) return;
  double sum[kPointSums] = {};
  for (int64_t block = 0; block < p.blocks(); ++block) {
    for (int i = 0; i < kPointSums; ++i) sum[i] += p.sums[(mask * p.blocks() + block) * kPointSums + i];
  }
  const bool paired = target_of(p, mask).paired;
  const Dice dice = dice_from_sums(sum[kPointWrong], sum[kPointMissing], sum[kPointInside]);
  const double share = 1.0 / static_cast<double>(p.num_points);
  p.cross_entropy[mask] = paired ? static_cast<float>(sum[kPointLoss] * share) : 0.0f;
  p.dice[mask] = paired ? dice.loss : 0.0f;
  p.coefficients[3 * mask] = paired ? static_cast<float>(share) : 0.0f;
  p.coefficients[3 * mask + 1] = paired ? dice.factor_inside : 0.0f;
  p.coefficients[3 * mask + 2] = paired ? dice.factor_all : 0.0f;
}

// Finds the gradient with respect to the sample at each point, and the largest finite one of a mask.
template <class Logit>
__global__ void __launch_bounds__(kThreads) point_mask_loss_grads_kernel(GradParams params) {
  const Params& p = params.forward;
  const int64_t mask = blockIdx.x / p.blocks(), block = blockIdx.x % p.blocks();
  const Target target = target_of(p, mask);
  if (!target.paired) return;
  const auto* logits = static_cast<const Logit*>(p.logits) + mask * p.mask_stride;
  const float* coefficients = params.coefficients + 3 * mask;
  const float of_dice = params.grad_dice != nullptr ? params.grad_dice[mask] : 0.0f;
  const float of_cross_entropy =
      params.grad_cross_entropy != nullptr ? params.grad_cross_entropy[mask] * coefficients[0] : 0.0f;
  const float inside = of_dice * coefficients[1], all = of_dice * coefficients[2];
  int32_t largest = 0;
  const int64_t end = min((block + 1) * kPointsPerBlock, p.num_points);
  for (int64_t i = block * kPointsPerBlock + threadIdx.x; i < end; i += kThreads) {
    const auto [logit, t] = sample_at(p, logits, target, mask * p.num_points + i);
    const Logistic<float> l = logistic(logit);
    const float slope = l.sigmoid * l.sigmoid_complement;
    const float grad =
        of_cross_entropy * ((1.0f - t) * l.sigmoid - t * l.sigmoid_complement) + slope * (inside * t + all);
    params.at_points[mask * p.num_points + i] = grad;
    const int32_t magnitude = float_bits(grad) & INT32_MAX;
    if (magnitude < 0x7f800000 && magnitude > largest) largest = magnitude;
  }
  largest = block_reduce<kThreads>(largest, Largest());
  if (threadIdx.x == 0) atomicMax(params.largest + mask, largest);
}

__device__ __forceinline__ double power_of_two(int exponent) {
  return __longlong_as_double(static_cast<long long>(1023 + exponent) << 52);
}

// The exponent of the unit whose multiples are added up. No sum over all points reaches 2^62 units.
__device__ __forceinline__ int unit_exponent(const GradParams& params, int64_t mask) {
  const int exponent = params.largest[mask] >> 23;
  const int above = exponent > 0 ? exponent - 126 : -126;  // every gradient is below this power of two
  int doublings = 0;
  while (doublings < 31 && (int64_t{1} << doublings) < params.forward.num_points) ++doublings;
  return above + doublings - 62;
}

__global__ void __launch_bounds__(kThreads) point_mask_loss_scatter_kernel(GradParams params) {
  const Params& p = params.forward;
  const int64_t mask = blockIdx.x / p.blocks(), block = blockIdx.x % p.blocks();
  if (!target_of(p, mask).paired) return;
  const double units = power_of_two(-unit_exponent(params, mask));
  const int64_t map = mask * p.height * p.width;
  const int64_t end = min((block + 1) * kPointsPerBlock, p.num_points);
  for (int64_t i = block * kPointsPerBlock + threadIdx.x; i < end; i += kThreads) {
    const float* point = p.points + 2 * (mask * p.num_points + i);
    const PointTaps taps = point_taps(point[0], point[1], p.height, p.width, p.width);
    const float grad = params.at_points[mask * p.num_points + i];
    const bool finite = (float_bits(grad) & INT32_MAX) < 0x7f800000;
    for (int tap = 0; tap < 4; ++tap) {
      if (taps.weight[tap] == 0.0f) continue;
      const int64_t pixel = map + taps.index[tap];
      if (!finite) {
        atomicOr(params.not_finite + pixel / 32, 1u << (pixel % 32));
        continue;
      }
      const auto multiple = static_cast<int64_t>(rint(units * (double{taps.weight[tap]} * double{grad})));
      atomicAdd(reinterpret_cast<unsigned long long*>(params.multiples) + pixel,
                static_cast<unsigned long long>(multiple));
    }
  }
}

template <class Logit>
__global__ void __launch_bounds__(kThreads) point_mask_loss_bwd_kernel(GradParams params) {
  const Params& p = params.forward;
  const int64_t mask = blockIdx.x, pixels = p.height * p.width;
  const double unit = power_of_two(unit_exponent(params, mask));
  for (int64_t i = blockIdx.y * int64_t{kThreads} + threadIdx.x; i < pixels; i += int64_t{gridDim.y} * kThreads) {
    const int64_t pixel = mask * pixels + i;
    const auto grad = static_cast<float>(static_cast<double>(params.multiples[pixel]) * unit);
    const bool finite = (params.not_finite[pixel / 32] >> (pixel % 32) & 1u) == 0;
    assign(static_cast<Logit*>(params.grad_logits)[pixel], finite ? grad : bits_float(0x7fc00000));
  }
}

}  // namespace
}  // namespace cuda

void point_mask_loss_fwd_cuda(const PointMaskLossCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const auto blocks = static_cast<unsigned>(params.masks * params.blocks());
  for_cuda_float_type(params.logits_dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    launch(point_mask_loss_sums_kernel<Logit>, blocks, kThreads, stream, params);
  });
  const auto finish = static_cast<unsigned>((params.masks + kThreads - 1) / kThreads);
  launch(point_mask_loss_finish_kernel, finish, kThreads, stream, params);
}

void point_mask_loss_bwd_cuda(const PointMaskLossGradCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const PointMaskLossCudaParams& p = params.forward;
  const auto blocks = static_cast<unsigned>(p.masks * p.blocks());
  const int64_t parts = (p.height * p.width + 1023) / 1024;
  const dim3 grid(static_cast<unsigned>(p.masks), static_cast<unsigned>(parts < 1024 ? parts : 1024));
  for_cuda_float_type(p.logits_dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    launch(point_mask_loss_grads_kernel<Logit>, blocks, kThreads, stream, params);
    launch(point_mask_loss_scatter_kernel, blocks, kThreads, stream, params);
    launch(point_mask_loss_bwd_kernel<Logit>, grid, kThreads, stream, params);
  });
}

}  // namespace maskformer_ext
