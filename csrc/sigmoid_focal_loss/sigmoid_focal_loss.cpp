// CPU kernels of the elementwise sigmoid focal loss.
#include "sigmoid_focal_loss/sigmoid_focal_loss.h"

#include <algorithm>

#include "common/convert.h"
#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int64_t kRun = 1024;  // elements converted at a time

// Whether all targets of a run, up to the next whole vector, are 0 or 1.
bool all_flags(const float* targets, int64_t count) {
  IntVec between{};
  for (int64_t i = 0; i < count; i += kLanes) {
    const FloatVec t = load<FloatVec>(targets + i);
    between |= ~((t == 0.0f) | (t == 1.0f));
  }
  return true_lanes(between) == 0;
}

// A run of elements, which is read and written up to the next whole vector.
struct FocalRun {
  const float *logits, *targets;
  const float* grad;  // of the losses, for a derivative
  float* to;
  int64_t count;
};

// Writes the losses of a run, or the gradients of its logits. With `flags`, targets are 0 or 1: half of the terms of a
// target between them are not needed, nor is a second division.
template <Gamma mode, bool derivative, bool flags>
void focal_run(const SigmoidFocalLossParams& p, const FocalRun& run) {
  const float *logits = run.logits, *targets = run.targets, *grad = run.grad;
  float* __restrict to = run.to;
  for (int64_t i = 0; i < run.count; i += kLanes) {
    const FloatVec x = load<FloatVec>(logits + i), t = load<FloatVec>(targets + i);
    FloatVec result;
    if constexpr (flags) {
      const IntVec inside = t != 0.0f, sign = inside & INT32_MIN;
      const FloatVec weight = inside ? broadcast(p.alpha_inside) : broadcast(p.alpha_outside);
      const FocalTerm<FloatVec> focal = focal_wrong<mode>(logistic((FloatVec)((IntVec)x ^ sign)), p.gamma);
      result = derivative ? (FloatVec)((IntVec)(weight * focal.grad) ^ sign) : weight * focal.loss;
    } else {
      const SoftPixel<FloatVec> pixel = soft_pixel<mode>(logistic(x), t, p.alpha_inside, p.alpha_outside, p.gamma);
      result = derivative ? pixel.grad : pixel.loss;
    }
    if constexpr (derivative) result *= load<FloatVec>(grad + i);
    store(to + i, result);
  }
}

template <Gamma mode, bool derivative>
void focal_run(const SigmoidFocalLossParams& p, const FocalRun& run) {
  if (all_flags(run.targets, run.count)) return focal_run<mode, derivative, true>(p, run);
  focal_run<mode, derivative, false>(p, run);
}

template <bool derivative>
void focal_run(const SigmoidFocalLossParams& p, const FocalRun& run) {
  if (p.gamma == 2.0f) return focal_run<Gamma::two, derivative>(p, run);
  if (p.gamma == 0.0f) return focal_run<Gamma::zero, derivative>(p, run);
  focal_run<Gamma::general, derivative>(p, run);
}

// Calls body(begin, run) per run of a block, where logits and targets are floats.
template <class Body>
void for_runs(const SigmoidFocalLossParams& p, int64_t block, Body&& body) {
  alignas(64) float logits[kRun] = {};
  alignas(64) float targets[kRun] = {};
  const int64_t end = std::min(p.numel, (block + 1) * p.kBlock);
  for (int64_t begin = block * p.kBlock; begin < end; begin += kRun) {
    const int64_t count = std::min(kRun, end - begin);
    FocalRun run = {};
    run.logits = as_floats(p.logits, p.logits_dtype, begin, count, logits);
    run.targets = as_floats(p.targets, p.targets_dtype, begin, count, targets);
    run.count = count;
    body(begin, run);
  }
}

}  // namespace

void sigmoid_focal_loss_fwd(const SigmoidFocalLossParams& p, int64_t first, int64_t last) {
  alignas(64) float values[kRun];
  for (int64_t block = first; block < last; ++block) {
    double total = 0;
    for_runs(p, block, [&](int64_t begin, FocalRun run) {
      run.to = p.loss == nullptr ? values : floats_to(p.loss, p.logits_dtype, begin, run.count, values);
      focal_run<false>(p, run);
      if (p.loss != nullptr) {
        store_floats_from(run.to, values, run.count, p.loss, p.logits_dtype, begin);
        return;
      }
      for (int64_t part = 0; part < run.count; part += kFloatRun * kLanes) {
        const int64_t end = std::min(part + kFloatRun * kLanes, run.count);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = part; i < end; ++i) sum += values[i];
        total += sum;
      }
    });
    if (p.block_sums != nullptr) p.block_sums[block] = total;
  }
}

void sigmoid_focal_loss_bwd(const SigmoidFocalLossParams& p, int64_t first, int64_t last) {
  alignas(64) float values[kRun];
  alignas(64) float grad[kRun] = {};
  if (p.grad_is_scalar) {
    load_floats(p.grad, p.grad_dtype, 0, 1, grad);
    std::fill(grad + 1, grad + kRun, grad[0]);
  }
  for (int64_t block = first; block < last; ++block) {
    for_runs(p, block, [&](int64_t begin, FocalRun run) {
      run.grad = p.grad_is_scalar ? grad : as_floats(p.grad, p.grad_dtype, begin, run.count, grad);
      run.to = floats_to(p.grad_logits, p.logits_dtype, begin, run.count, values);
      focal_run<true>(p, run);
      store_floats_from(run.to, values, run.count, p.grad_logits, p.logits_dtype, begin);
    });
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
