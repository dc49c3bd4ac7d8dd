// CPU kernels of the elementwise sigmoid focal loss.
#include "sigmoid_focal_loss/sigmoid_focal_loss.h"

#include <algorithm>

#include "common/convert.h"
#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int64_t kRun = 1024;  // elements converted at a time

// Replaces a run of logits, up to the next whole vector, by the loss or by its derivative.
template <Gamma mode, bool derivative>
void focal_run(const SigmoidFocalLossParams& p, float* logits, const float* targets, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const SoftPixel<FloatVec> pixel = soft_pixel<mode>(
        logistic(load<FloatVec>(logits + i)), load<FloatVec>(targets + i), p.alpha_inside, p.alpha_outside, p.gamma);
    store(logits + i, derivative ? pixel.grad : pixel.loss);
  }
}

template <bool derivative>
void focal_run(const SigmoidFocalLossParams& p, float* logits, const float* targets, int64_t count) {
  if (p.gamma == 2.0f) return focal_run<Gamma::two, derivative>(p, logits, targets, count);
  if (p.gamma == 0.0f) return focal_run<Gamma::zero, derivative>(p, logits, targets, count);
  focal_run<Gamma::general, derivative>(p, logits, targets, count);
}

// Calls body(begin, count, values) per run of a block, where values are the loss or its derivative.
template <bool derivative, class Body>
void for_runs(const SigmoidFocalLossParams& p, int64_t block, Body&& body) {
  alignas(64) float values[kRun] = {};
  alignas(64) float targets[kRun] = {};
  const int64_t end = std::min(p.numel, (block + 1) * p.kBlock);
  for (int64_t begin = block * p.kBlock; begin < end; begin += kRun) {
    const int64_t count = std::min(kRun, end - begin);
    load_floats(p.logits, p.logits_dtype, begin, count, values);
    load_floats(p.targets, p.targets_dtype, begin, count, targets);
    focal_run<derivative>(p, values, targets, count);
    body(begin, count, values);
  }
}

}  // namespace

void sigmoid_focal_loss_fwd(const SigmoidFocalLossParams& p, int64_t first, int64_t last) {
  for (int64_t block = first; block < last; ++block) {
    double total = 0;
    for_runs<false>(p, block, [&](int64_t begin, int64_t count, const float* values) {
      if (p.loss != nullptr) {
        store_floats(values, count, p.loss, p.logits_dtype, begin);
        return;
      }
      for (int64_t part = 0; part < count; part += kFloatRun * kLanes) {
        const int64_t end = std::min(part + kFloatRun * kLanes, count);
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
  alignas(64) float grad[kRun];
  if (p.grad_is_scalar) {
    load_floats(p.grad, p.grad_dtype, 0, 1, grad);
    std::fill(grad + 1, grad + kRun, grad[0]);
  }
  for (int64_t block = first; block < last; ++block) {
    for_runs<true>(p, block, [&](int64_t begin, int64_t count, float* __restrict values) {
      if (!p.grad_is_scalar) load_floats(p.grad, p.grad_dtype, begin, count, grad);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) values[i] *= grad[i];
      store_floats(values, count, p.grad_logits, p.logits_dtype, begin);
    });
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
