// CPU kernels of the dice loss.
#include "dice_loss/dice_loss.h"

#include <algorithm>

#include "common/convert.h"
#include "common/math.h"
#include "dice_loss/dice_from_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int64_t kRun = 1024;  // pixels converted at a time

// Calls body(begin, count, logits, targets) per run of an item. `begin` counts elements of (N, pixels). Both arrays may
// be read up to the next whole vector.
template <class Body>
void for_runs(const DiceLossParams& p, int64_t item, Body&& body) {
  alignas(64) float logits_buffer[kRun] = {};
  alignas(64) float targets_buffer[kRun] = {};
  const int64_t first = (item / p.blocks) * p.pixels, block = item % p.blocks;
  const int64_t end = first + std::min(p.pixels, (block + 1) * p.kBlock);
  for (int64_t begin = first + block * p.kBlock; begin < end; begin += kRun) {
    const int64_t count = std::min(kRun, end - begin);
    const float* logits = as_floats(p.logits, p.logits_dtype, begin, count, logits_buffer);
    const float* targets = as_floats(p.targets, p.targets_dtype, begin, count, targets_buffer);
    body(begin, count, logits, targets);
  }
}

}  // namespace

void dice_loss_fwd(const DiceLossParams& p, int64_t first, int64_t last) {
  for (int64_t item = first; item < last; ++item) {
    DiceSums total = {};
    for_runs(p, item, [&](int64_t, int64_t count, const float* logits, const float* targets) {
      for (int64_t part = 0; part < count; part += kFloatRun * kLanes) {
        const int64_t end = std::min(part + kFloatRun * kLanes, count);
        FloatVec missing{}, excess{}, inside{};
        const auto add = [&](int64_t i, auto&& keep) __attribute__((always_inline)) {
          const Logistic<FloatVec> s = logistic(load<FloatVec>(logits + i));
          const FloatVec t = load<FloatVec>(targets + i);
          missing += keep(t * s.sigmoid_complement);
          excess += keep((1.0f - t) * s.sigmoid);
          inside += keep(t);
        };
        int64_t i = part;
        for (; i + kLanes <= end; i += kLanes) add(i, [](FloatVec x) { return x; });
        if (i < end) {
          const IntVec exists = lane_numbers() < static_cast<int32_t>(end - i);
          add(i, [&](FloatVec x) { return exists ? x : FloatVec{}; });
        }
        const float wrong_inside = sum_lanes(missing);
        total.wrong += wrong_inside + sum_lanes(excess);
        total.wrong_inside += wrong_inside;
        total.inside += sum_lanes(inside);
      }
    });
    p.sums[item] = total;
  }
}

void dice_loss_finish(const DiceLossParams& p, int64_t begin, int64_t end) {
  for (int64_t mask = begin; mask < end; ++mask) {
    DiceSums sum = {};
    for (int64_t block = 0; block < p.blocks; ++block) {
      const DiceSums& part = p.sums[mask * p.blocks + block];
      sum.wrong += part.wrong;
      sum.wrong_inside += part.wrong_inside;
      sum.inside += part.inside;
    }
    const Dice dice = dice_from_sums(sum.wrong, sum.wrong_inside, sum.inside);
    p.loss[mask] = dice.loss;
    p.coefficients[2 * mask] = dice.factor_inside;
    p.coefficients[2 * mask + 1] = dice.factor_all;
  }
}

void dice_loss_bwd(const DiceLossParams& p, int64_t first, int64_t last) {
  alignas(64) float values[kRun];
  for (int64_t item = first; item < last; ++item) {
    const int64_t mask = item / p.blocks;
    const float inside = p.grad[mask] * p.coefficients[2 * mask];
    const float all = p.grad[mask] * p.coefficients[2 * mask + 1];
    for_runs(p, item, [&](int64_t begin, int64_t count, const float* logits, const float* targets) {
      float* __restrict to = floats_to(p.grad_logits, p.logits_dtype, begin, count, values);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) {
        const Logistic<float> s = logistic(logits[i]);
        to[i] = s.sigmoid * s.sigmoid_complement * (inside * targets[i] + all);
      }
      store_floats_from(to, values, count, p.grad_logits, p.logits_dtype, begin);
    });
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
