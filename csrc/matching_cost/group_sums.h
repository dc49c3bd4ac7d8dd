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
  double positive, negative;
  double foreground, background;  // sums of s and of 1 - s, with s = sigmoid(logit)
};

template <class F>
struct PixelTerms {
  F positive, negative, foreground, background;
};

template <bool kSquare, class F>
inline __attribute__((always_inline)) PixelTerms<F> pixel_terms(F x, float gamma) {
  const Logistic<F> p = logistic(x);
  const F s = p.sigmoid, c = p.sigmoid_complement;
  // s^gamma = exp(gamma * log s) = exp(-gamma * softplus(-x)), whose argument is never positive.
  const F positive_factor = kSquare ? c * c : exp_nonpositive(-gamma * p.softplus);
  const F negative_factor = kSquare ? s * s : exp_nonpositive(-gamma * p.softplus_negative);
  return {positive_factor * p.softplus_negative, negative_factor * p.softplus, s, c};
}

// Adds up a group. Both ends are multiples of kMatchingCostLanes. Only the last of these blocks has padding, so the
// others need no weights.
template <bool kSquare>
inline GroupSums sum_group(const float* x, const float* weight, int64_t begin, int64_t end, float gamma) {
  GroupSums total = {};
  constexpr int64_t run = kFloatRun * kLanes;
  const int64_t padded = end - kMatchingCostLanes;
  for (int64_t i = begin; i < end;) {
    const int64_t stop = std::min(i + run, end);
    FloatVec positive{}, negative{}, foreground{}, background{};
    for (const int64_t full = std::min(stop, padded); i < full; i += kLanes) {
      const PixelTerms<FloatVec> terms = pixel_terms<kSquare>(load<FloatVec>(x + i), gamma);
      positive += terms.positive;
      negative += terms.negative;
      foreground += terms.foreground;
      background += terms.background;
    }
    for (; i < stop; i += kLanes) {
      const PixelTerms<FloatVec> terms = pixel_terms<kSquare>(load<FloatVec>(x + i), gamma);
      const FloatVec counts = load<FloatVec>(weight + i);
      positive += counts * terms.positive;
      negative += counts * terms.negative;
      foreground += counts * terms.foreground;
      background += counts * terms.background;
    }
    total.positive += sum_lanes(positive);
    total.negative += sum_lanes(negative);
    total.foreground += sum_lanes(foreground);
    total.background += sum_lanes(background);
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
  double before[2] = {}, after[2] = {scratch.negative[last], scratch.foreground[last]};
  for (int64_t t = 0; t < last; ++t) {
    scratch.focal[t] = scratch.positive[t] + before[0];
    scratch.wrong[t] = scratch.background[t] + before[1];
    before[0] += scratch.negative[t];
    before[1] += scratch.foreground[t];
  }
  for (int64_t t = last - 1; t >= 0; --t) {
    scratch.focal[t] += after[0];
    scratch.wrong[t] += after[1];
    after[0] += scratch.negative[t];
    after[1] += scratch.foreground[t];
  }
}

// A mask is a set of groups.
inline void add_masks(const ImageTargets& targets, int64_t num_segments, const MatchingCostScratch& scratch) {
  const int64_t groups = targets.order.num_groups;
  for (int64_t t = 0; t < num_segments; ++t) {
    const uint8_t* member = targets.member + t * groups;
    double focal = 0.0, wrong = 0.0;
#pragma omp simd reduction(+ : focal, wrong)
    for (int64_t g = 0; g < groups; ++g) {
      focal += member[g] != 0 ? scratch.positive[g] : scratch.negative[g];
      wrong += member[g] != 0 ? scratch.background[g] : scratch.foreground[g];
    }
    scratch.focal[t] = focal;
    scratch.wrong[t] = wrong;
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

// Writes the costs of a query from the sum of its foreground and from scratch.focal, .wrong and .probability. With I,
// S and A as in dice_from_sums.h, `wrong` is S + A - 2 I, added up pixel by pixel. 1 - (2 I + 1) / (S + A + 1) would
// cancel where a mask is almost right.
inline void write_costs(const MatchingCostParams& p, const ImageTargets& targets, int64_t num_segments,
                        double foreground, const int64_t* labels, const MatchingCostScratch& scratch, float* cost) {
  const double pixels = static_cast<double>(std::max<int64_t>(targets.order.counted, 1));
  for (int64_t t = 0; t < num_segments; ++t) {
    const double dice = scratch.wrong[t] / (foreground + static_cast<double>(targets.area[t]) + 1.0);
    cost[t] = static_cast<float>(p.focal_weight * (scratch.focal[t] / pixels) + p.dice_weight * dice -
                                 static_cast<double>(p.class_weight) * scratch.probability[labels[t]]);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
