// From pixels to sums over groups, and from those to the cost of a query. The CPU kernels of matching_cost and
// matching_cost_from_embeddings share it.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "common/math.h"
#include "matching_cost/matching_cost.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Sums over the pixels of one group. Focal terms lack the factors alpha and 1 - alpha.
struct GroupSums {
  double positive, negative, foreground;
};

struct PixelTerms {
  float positive, negative, foreground;
};

template <bool kSquare>
inline __attribute__((always_inline)) PixelTerms pixel_terms(float x, float gamma) {
  const Logistic p = logistic(x);
  const float s = p.sigmoid, c = p.sigmoid_complement;
  // s^gamma = exp(gamma * log s) = exp(-gamma * softplus(-x)), whose argument is never positive.
  const float positive_factor = kSquare ? c * c : exp_nonpositive(-gamma * p.softplus);
  const float negative_factor = kSquare ? s * s : exp_nonpositive(-gamma * p.softplus_negative);
  return {positive_factor * p.softplus_negative, negative_factor * p.softplus, s};
}

template <bool kSquare>
inline GroupSums sum_group(const float* x, const float* weight, int64_t begin, int64_t end, float gamma) {
  GroupSums total = {0.0, 0.0, 0.0};
  constexpr int64_t run = kFloatRun * kLanes;
  for (int64_t tile = begin; tile < end; tile += run) {
    const int64_t stop = std::min(tile + run, end);
    float positive = 0.0f, negative = 0.0f, foreground = 0.0f;
#pragma omp simd reduction(+ : positive, negative, foreground)
    for (int64_t i = tile; i < stop; ++i) {
      const PixelTerms terms = pixel_terms<kSquare>(x[i], gamma);
      positive += weight[i] * terms.positive;
      negative += weight[i] * terms.negative;
      foreground += weight[i] * terms.foreground;
    }
    total.positive += positive;
    total.negative += negative;
    total.foreground += foreground;
  }
  return total;
}

struct FocalFactors {
  double positive, negative;
};

inline FocalFactors focal_factors(float alpha) {
  return {alpha < 0.0f ? 1.0 : static_cast<double>(alpha), alpha < 0.0f ? 1.0 : 1.0 - static_cast<double>(alpha)};
}

// Every group but void is a segment. The outside of a segment is summed as what comes before plus what comes after it.
// The total less the inside would cancel.
inline void add_segments(const PixelOrder& order, const MatchingCostScratch& scratch) {
  const int64_t last = order.num_groups - 1;
  double before = 0.0, after = scratch.negative[last];
  for (int64_t t = 0; t < last; ++t) {
    scratch.inside[t] = scratch.foreground[t];
    scratch.focal[t] = scratch.positive[t] + before;
    before += scratch.negative[t];
  }
  for (int64_t t = last - 1; t >= 0; --t) {
    scratch.focal[t] += after;
    after += scratch.negative[t];
  }
}

// A mask is a set of groups.
inline void add_masks(const ImageTargets& targets, int64_t num_segments, const MatchingCostScratch& scratch) {
  const int64_t groups = targets.order.num_groups;
  for (int64_t t = 0; t < num_segments; ++t) {
    const uint8_t* member = targets.member + t * groups;
    double focal = 0.0, inside = 0.0;
#pragma omp simd reduction(+ : focal, inside)
    for (int64_t g = 0; g < groups; ++g) {
      focal += member[g] != 0 ? scratch.positive[g] : scratch.negative[g];
      inside += member[g] != 0 ? scratch.foreground[g] : 0.0;
    }
    scratch.focal[t] = focal;
    scratch.inside[t] = inside;
  }
}

// Sums over segments from sums over groups.
inline void add_groups(const ImageTargets& targets, int64_t num_segments, const MatchingCostScratch& scratch) {
  if (targets.member != nullptr) {
    add_masks(targets, num_segments, scratch);
  } else {
    add_segments(targets.order, scratch);
  }
}

// Writes softmax(logits). Returns false where it is undefined: a NaN, +inf, or nothing but -inf.
template <class T>
inline bool softmax(const T* logits, int64_t n, float* probability) {
  int32_t wrong = 0;
  float largest = -INFINITY;
#pragma omp simd reduction(| : wrong) reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) {
    const float x = to_float(logits[i]);
    probability[i] = x;
    wrong |= !(x <= FLT_MAX);
    largest = x > largest ? x : largest;
  }
  if (wrong != 0 || largest == -INFINITY) return false;
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float e = exp_nonpositive(probability[i] - largest);
    probability[i] = e;
    sum += e;
  }
  for (int64_t i = 0; i < n; ++i) probability[i] /= sum;
  return true;
}

// Writes the class probabilities of a row. Returns false where they are undefined.
inline bool class_probability(const MatchingCostParams& p, int64_t row, const MatchingCostScratch& scratch) {
  bool defined = true;
  for_float_type(p.class_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.class_logits) + row * (p.classes + 1);
    defined = softmax(logits, p.classes + 1, scratch.probability);
  });
  return defined;
}

// Writes the costs of a query from the sum of its foreground and from scratch.focal, .inside and .probability.
inline void write_costs(const MatchingCostParams& p, const ImageTargets& targets, int64_t num_segments,
                        double foreground, const int64_t* labels, const MatchingCostScratch& scratch, float* cost) {
  const double pixels = static_cast<double>(std::max<int64_t>(targets.order.counted, 1));
  for (int64_t t = 0; t < num_segments; ++t) {
    const double dice =
        1.0 - (2.0 * scratch.inside[t] + 1.0) / (foreground + static_cast<double>(targets.area[t]) + 1.0);
    cost[t] = static_cast<float>(p.focal_weight * (scratch.focal[t] / pixels) + p.dice_weight * dice -
                                 static_cast<double>(p.class_weight) * scratch.probability[labels[t]]);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
