// CUDA kernels that end mask_loss and matched_mask_loss: the sums over blocks, and backward.
#include "common/cuda_block.cuh"
#include "dice_loss/dice_from_sums.h"
#include "mask_loss/target_group.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaps = 3;
constexpr int kSums = kMaskLossSums;

// Combines a mask's blocks, in an order that depends on their number only.
__global__ void __launch_bounds__(kThreads) mask_loss_finish_kernel(MaskLossCudaParams p) {
  const int mask = blockIdx.x;
  const int strips = p.strips(), chunks = p.chunks.count;
  if (p.maps != nullptr) {
    const int64_t map_stride = int64_t{p.height} * p.width;
    for (int i = threadIdx.x; i < (strips - 1) * kMaps * p.width; i += kThreads) {
      const int strip = i / (kMaps * p.width), map = i / p.width % kMaps, x = i % p.width;
      const int y = (strip + 1) * p.strip_rows;
      p.maps[(int64_t{mask} * kMaps + map) * map_stride + int64_t{y} * p.width + x] +=
          p.edges[((int64_t{mask} * strips + strip) * kMaps + map) * p.width + x];
    }
  }
  double sum[kSums] = {};
  for (int block = threadIdx.x; block < strips * chunks; block += kThreads) {
    for (int i = 0; i < kSums; ++i) sum[i] += p.sums[(int64_t{mask} * strips * chunks + block) * kSums + i];
  }
  for (int i = 0; i < kSums; ++i) sum[i] = block_reduce<kThreads>(sum[i], Add());
  if (threadIdx.x != 0) return;
  const bool paired = mask_target(p, mask).paired;
  const double pixels = sum[kSumPixels] < 1.0 ? 1.0 : sum[kSumPixels];
  const Dice dice = dice_from_sums(sum[kSumWrong], sum[kSumWrongInside], sum[kSumInside]);
  p.focal[mask] = paired ? static_cast<float>(sum[kSumFocal] / pixels) : 0.0f;
  p.dice[mask] = paired ? dice.loss : 0.0f;
  p.coefficients[kMaps * mask] = paired ? static_cast<float>(1.0 / pixels) : 0.0f;
  p.coefficients[kMaps * mask + 1] = paired ? dice.factor_inside : 0.0f;
  p.coefficients[kMaps * mask + 2] = paired ? dice.factor_all : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(256) mask_loss_bwd_kernel(MaskLossGradParams p) {
  const int64_t mask = blockIdx.x;
  const float* coefficients = p.coefficients + kMaps * mask;
  const bool paired = coefficients[0] != 0.0f || coefficients[1] != 0.0f;  // else zero, whatever arrives
  const float focal = paired && p.grad_focal != nullptr ? p.grad_focal[mask] * coefficients[0] : 0.0f;
  const float dice = paired && p.grad_dice != nullptr ? p.grad_dice[mask] : 0.0f;
  const float inside = dice * coefficients[1], all = dice * coefficients[2];
  const float* maps = p.maps + mask * kMaps * p.pixels;
  T* grad = static_cast<T*>(p.grad_logits) + mask * p.pixels;
  for (int64_t i = blockIdx.y * int64_t{256} + threadIdx.x; i < p.pixels; i += int64_t{gridDim.y} * 256) {
    const float of_dice = inside * maps[p.pixels + i] + all * maps[2 * p.pixels + i];
    const float value = p.grad_focal != nullptr ? focal * maps[i] + of_dice : of_dice;  // 0 * infinity is NaN
    assign(grad[i], paired ? value : 0.0f);
  }
}

}  // namespace
}  // namespace cuda

void mask_loss_finish_cuda(const MaskLossCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  launch(mask_loss_finish_kernel, static_cast<unsigned>(params.masks), kThreads, stream, params);
}

void mask_loss_bwd_cuda(const MaskLossGradParams& params, int64_t masks, CUstream_st* stream) {
  using namespace cuda;
  if (masks == 0 || params.pixels == 0) return;
  const int64_t parts = (params.pixels + 1023) / 1024;
  const dim3 grid(static_cast<unsigned>(masks), static_cast<unsigned>(parts < 1024 ? parts : 1024));
  for_cuda_float_type(params.dtype, [&](auto* pointer) {
    using T = std::remove_pointer_t<decltype(pointer)>;
    launch(mask_loss_bwd_kernel<T>, grid, 256, stream, params);
  });
}

}  // namespace maskformer_ext
