// CUDA kernels of the elementwise sigmoid focal loss: one thread block per kBlock elements.
#include <type_traits>

#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/cuda_types.cuh"
#include "sigmoid_focal_loss/sigmoid_focal_loss.h"

namespace maskformer_ext {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlock = SigmoidFocalLossParams::kBlock;
constexpr int64_t kRun = 32 * kThreads;  // a thread adds no more than 32 floats before it goes on in double
using Params = SigmoidFocalLossParams;

// gamma is the same for all threads, so the branch costs nothing. It spares three copies of each kernel.
__device__ __forceinline__ SoftPixel<float> focal_pixel(const Params& p, float logit, float target) {
  const Logistic<float> l = fast_logistic(logit);
  if (p.gamma == 2.0f) return soft_pixel<Gamma::two>(l, target, p.alpha_inside, p.alpha_outside, p.gamma);
  if (p.gamma == 0.0f) return soft_pixel<Gamma::zero>(l, target, p.alpha_inside, p.alpha_outside, p.gamma);
  return soft_pixel<Gamma::general>(l, target, p.alpha_inside, p.alpha_outside, p.gamma);
}

template <class Logit, class Target>
__global__ void __launch_bounds__(kThreads) sigmoid_focal_loss_fwd_kernel(Params p) {
  const auto* logits = static_cast<const Logit*>(p.logits);
  const auto* targets = static_cast<const Target*>(p.targets);
  auto* loss = static_cast<Logit*>(p.loss);
  const int64_t begin = blockIdx.x * kBlock;
  const int64_t end = begin + kBlock < p.numel ? begin + kBlock : p.numel;
  double own = 0.0;
  for (int64_t run = begin; run < end; run += kRun) {
    const int64_t run_end = run + kRun < end ? run + kRun : end;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t i = run + threadIdx.x; i < run_end; i += kThreads) {
      const float value = focal_pixel(p, as_float(logits[i]), as_float(targets[i])).loss;
      if (loss != nullptr) assign(loss[i], value);
      sum += value;
    }
    own += sum;
  }
  if (p.block_sums == nullptr) return;
  const double total = block_reduce<kThreads>(own, Add());
  if (threadIdx.x == 0) p.block_sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads)
    sigmoid_focal_loss_sum_kernel(Params p, int64_t blocks, double divisor, float* loss) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += p.block_sums[i];
  const double total = block_reduce<kThreads>(sum, Add());
  if (threadIdx.x == 0) *loss = static_cast<float>(total / divisor);
}

template <class Logit, class Target>
__global__ void __launch_bounds__(kThreads) sigmoid_focal_loss_bwd_kernel(Params p) {
  const auto* logits = static_cast<const Logit*>(p.logits);
  const auto* targets = static_cast<const Target*>(p.targets);
  const auto* grad = static_cast<const Logit*>(p.grad);
  const float grad_of_all = p.grad_is_scalar ? *static_cast<const float*>(p.grad) : 0.0f;
  auto* grad_logits = static_cast<Logit*>(p.grad_logits);
  const int64_t begin = blockIdx.x * kBlock;
  const int64_t end = begin + kBlock < p.numel ? begin + kBlock : p.numel;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const float slope = focal_pixel(p, as_float(logits[i]), as_float(targets[i])).grad;
    assign(grad_logits[i], slope * (p.grad_is_scalar ? grad_of_all : as_float(grad[i])));
  }
}

template <class Pointer>
using Pointee = std::remove_pointer_t<Pointer>;

}  // namespace
}  // namespace cuda

void sigmoid_focal_loss_fwd_cuda(const SigmoidFocalLossParams& params, float* reduced, double divisor,
                                 CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>((params.numel + cuda::kBlock - 1) / cuda::kBlock);
  cuda::for_cuda_float_type(params.logits_dtype, [&](auto* logit) {
    using Logit = cuda::Pointee<decltype(logit)>;
    cuda::for_cuda_float_type(params.targets_dtype, [&](auto* target) {
      using Target = cuda::Pointee<decltype(target)>;
      if (blocks > 0) {
        cuda::launch(cuda::sigmoid_focal_loss_fwd_kernel<Logit, Target>, blocks, cuda::kThreads, stream, params);
      }
    });
  });
  if (reduced != nullptr) {
    cuda::launch(cuda::sigmoid_focal_loss_sum_kernel, 1, cuda::kThreads, stream, params, int64_t{blocks}, divisor,
                 reduced);
  }
}

void sigmoid_focal_loss_bwd_cuda(const SigmoidFocalLossParams& params, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>((params.numel + cuda::kBlock - 1) / cuda::kBlock);
  if (blocks == 0) return;
  cuda::for_cuda_float_type(params.logits_dtype, [&](auto* logit) {
    cuda::for_cuda_float_type(params.targets_dtype, [&](auto* target) {
      using Logit = cuda::Pointee<decltype(logit)>;
      using Target = cuda::Pointee<decltype(target)>;
      cuda::launch(cuda::sigmoid_focal_loss_bwd_kernel<Logit, Target>, blocks, cuda::kThreads, stream, params);
    });
  });
}

}  // namespace maskformer_ext
