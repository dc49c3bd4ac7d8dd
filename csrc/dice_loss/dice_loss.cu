// CUDA kernels of the dice loss: a thread block takes kCudaBlock pixels of a mask.
#include <bit>

#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/cuda_types.cuh"
#include "dice_loss/dice_from_sums.h"
#include "dice_loss/dice_loss.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = DiceLossParams;
constexpr int kThreads = 256;
constexpr int kWide = 4;  // pixels that are read at once where masks are aligned

__device__ __forceinline__ float target_value(uint8_t x) { return x != 0 ? 1.0f : 0.0f; }
template <class T>
__device__ __forceinline__ float target_value(T x) {
  return as_float(x);
}

template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Vector {
  T values[kCount];
};

// nvcc splits the copy of a struct whose members were just computed, so whole words are stored.
template <class T, int kCount>
__device__ __forceinline__ void store(T* to, const Vector<T, kCount>& from) {
  if constexpr (kCount == 1) {
    *to = from.values[0];
  } else {
    using Words = Vector<uint64_t, sizeof(from) / sizeof(uint64_t)>;
    *reinterpret_cast<Words*>(to) = std::bit_cast<Words>(from);
  }
}

// The mask of a thread block and its pixels [begin, begin + count), as elements of (N, pixels).
struct Share {
  int64_t mask, begin;
  int count;

  __device__ explicit Share(const Params& p) {
    const auto blocks = static_cast<unsigned>(p.blocks);
    const int64_t first = int64_t{blockIdx.x % blocks} * Params::kCudaBlock, rest = p.pixels - first;
    mask = blockIdx.x / blocks;
    begin = mask * p.pixels + first;
    count = static_cast<int>(rest < Params::kCudaBlock ? rest : Params::kCudaBlock);
  }
};

// Calls body(first, logits, targets) for the thread's vectors of kCount pixels.
template <int kCount, class Logit, class Target, class Body>
__device__ __forceinline__ void for_vectors(const Params& p, const Share& share, const Body& body) {
  const auto* logits = static_cast<const Logit*>(p.logits) + share.begin;
  const auto* targets = static_cast<const Target*>(p.targets) + share.begin;
#pragma unroll 2
  for (int i = kCount * threadIdx.x; i < share.count; i += kCount * kThreads) {
    const auto logit = *reinterpret_cast<const Vector<Logit, kCount>*>(logits + i);  // copies, so that each is one load
    const auto target = *reinterpret_cast<const Vector<Target, kCount>*>(targets + i);
    body(share.begin + i, logit, target);
  }
}

struct Sums {
  float wrong = 0.0f, wrong_inside = 0.0f, inside = 0.0f;
};

template <int kCount, class Logit, class Target>
__device__ __forceinline__ Sums sum_pixels(const Params& p, const Share& share) {
  Sums sums;
  for_vectors<kCount, Logit, Target>(p, share, [&](int64_t, const auto& logits, const auto& targets) {
    for (int i = 0; i < kCount; ++i) {
      const Logistic<float> s = fast_logistic(as_float(logits.values[i]));
      const float t = target_value(targets.values[i]);
      const float missing = t * s.sigmoid_complement;
      sums.wrong += missing + (1.0f - t) * s.sigmoid;
      sums.wrong_inside += missing;
      sums.inside += t;
    }
  });
  return sums;
}

// What the layout allows is the same for all threads, so the branch costs nothing.
template <class Logit, class Target>
__global__ void __launch_bounds__(kThreads) dice_loss_fwd_kernel(Params p, bool aligned) {
  const Share share(p);
  const Sums own = aligned ? sum_pixels<kWide, Logit, Target>(p, share) : sum_pixels<1, Logit, Target>(p, share);
  DiceSums sums;
  sums.wrong = block_reduce<kThreads>(static_cast<double>(own.wrong), Add());
  sums.wrong_inside = block_reduce<kThreads>(static_cast<double>(own.wrong_inside), Add());
  sums.inside = block_reduce<kThreads>(static_cast<double>(own.inside), Add());
  if (threadIdx.x == 0) p.sums[blockIdx.x] = sums;
}

// One warp per mask joins the mask's blocks, in an order that depends on their number only.
__global__ void __launch_bounds__(32) dice_loss_finish_kernel(Params p) {
  const int64_t mask = blockIdx.x;
  DiceSums sums = {};
  for (int64_t block = threadIdx.x; block < p.blocks; block += 32) {
    const DiceSums& part = p.sums[mask * p.blocks + block];
    sums.wrong += part.wrong;
    sums.wrong_inside += part.wrong_inside;
    sums.inside += part.inside;
  }
  const Dice dice = dice_from_sums(warp_sum(sums.wrong), warp_sum(sums.wrong_inside), warp_sum(sums.inside));
  if (threadIdx.x != 0) return;
  p.loss[mask] = dice.loss;
  p.coefficients[2 * mask] = dice.factor_inside;
  p.coefficients[2 * mask + 1] = dice.factor_all;
}

template <int kCount, class Logit, class Target>
__device__ __forceinline__ void write_gradients(const Params& p, const Share& share) {
  auto* grad_logits = static_cast<Logit*>(p.grad_logits);
  const float inside = p.grad[share.mask] * p.coefficients[2 * share.mask];
  const float all = p.grad[share.mask] * p.coefficients[2 * share.mask + 1];
  for_vectors<kCount, Logit, Target>(p, share, [&](int64_t first, const auto& logits, const auto& targets) {
    Vector<Logit, kCount> grad;
    for (int i = 0; i < kCount; ++i) {
      const Logistic<float> s = fast_logistic(as_float(logits.values[i]));
      assign(grad.values[i], s.sigmoid * s.sigmoid_complement * (inside * target_value(targets.values[i]) + all));
    }
    store(grad_logits + first, grad);
  });
}

template <class Logit, class Target>
__global__ void __launch_bounds__(kThreads) dice_loss_bwd_kernel(Params p, bool aligned) {
  const Share share(p);
  aligned ? write_gradients<kWide, Logit, Target>(p, share) : write_gradients<1, Logit, Target>(p, share);
}

// Whether every mask begins at a whole vector and consists of whole vectors.
bool aligned(const Params& p) {
  const auto fits = [](const void* pointer, DType dtype) {
    return reinterpret_cast<uintptr_t>(pointer) % (kWide * dtype_size(dtype)) == 0;
  };
  return p.pixels % kWide == 0 && fits(p.logits, p.logits_dtype) && fits(p.targets, p.targets_dtype) &&
         fits(p.grad_logits, p.logits_dtype);
}

// Calls body with null pointers to the types of logits and targets.
template <class Body>
void for_types(const Params& p, const Body& body) {
  for_cuda_float_type(p.logits_dtype, [&](auto* logit) {
    if (p.targets_dtype == DType::uint8) return body(logit, static_cast<uint8_t*>(nullptr));
    for_cuda_float_type(p.targets_dtype, [&](auto* target) { body(logit, target); });
  });
}

template <class Pointer>
using Pointee = std::remove_pointer_t<Pointer>;

}  // namespace
}  // namespace cuda

void dice_loss_fwd_cuda(const DiceLossParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.masks == 0) return;
  const auto items = static_cast<unsigned>(params.masks * params.blocks);
  for_types(params, [&](auto* logit, auto* target) {
    const auto kernel = dice_loss_fwd_kernel<Pointee<decltype(logit)>, Pointee<decltype(target)>>;
    if (items > 0) launch(kernel, items, kThreads, stream, params, aligned(params));
  });
  launch(dice_loss_finish_kernel, static_cast<unsigned>(params.masks), 32, stream, params);
}

void dice_loss_bwd_cuda(const DiceLossParams& params, CUstream_st* stream) {
  using namespace cuda;
  const auto items = static_cast<unsigned>(params.masks * params.blocks);
  if (items == 0) return;
  for_types(params, [&](auto* logit, auto* target) {
    const auto kernel = dice_loss_bwd_kernel<Pointee<decltype(logit)>, Pointee<decltype(target)>>;
    launch(kernel, items, kThreads, stream, params, aligned(params));
  });
}

}  // namespace maskformer_ext
