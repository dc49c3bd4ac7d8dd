// One pass over a query's mask logits gives its focal and dice cost with every segment.
#include "matching_cost/matching_cost.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Sums over the pixels of one group; focal terms without the factors alpha and 1 - alpha.
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

// Converts a row to float; tells whether all of it is finite.
template <class T>
bool load_row(const T* logits, int64_t n, float* row) {
  int32_t wrong = 0;
#pragma omp simd reduction(| : wrong)
  for (int64_t i = 0; i < n; ++i) {
    const float x = to_float(logits[i]);
    row[i] = x;
    wrong |= !(std::fabs(x) <= FLT_MAX);
  }
  return wrong == 0;
}

// Writes softmax(logits); false where the result is undefined (a NaN, +inf, or nothing but -inf).
template <class T>
bool softmax(const T* logits, int64_t n, float* probability) {
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

// Copies a row's runs to their places. Whole blocks are copied: what a block writes behind its run is overwritten by
// the next run or lies in the padding, where any finite number will do.
void sort_row(const PixelOrder& order, const float* row, float* sorted) {
  constexpr int64_t lanes = kMatchingCostLanes;
  for (int64_t r = 0; r < order.num_runs; ++r) {
    const float* source = row + order.source[r];
    float* destination = sorted + order.destination[r];
    for (int32_t i = 0; i < order.length[r]; i += lanes)
      std::memcpy(destination + i, source + i, lanes * sizeof(float));
  }
}

template <bool kSquare>
GroupSums sum_group(const float* x, const float* weight, int64_t begin, int64_t end, float gamma) {
  GroupSums total = {0.0, 0.0, 0.0};
  for (int64_t tile = begin; tile < end; tile += kMatchingCostTile) {
    const int64_t stop = std::min(tile + kMatchingCostTile, end);
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

FocalFactors focal_factors(float alpha) {
  return {alpha < 0.0f ? 1.0 : static_cast<double>(alpha), alpha < 0.0f ? 1.0 : 1.0 - static_cast<double>(alpha)};
}

// Sums each group into scratch.positive, .negative (with their factors) and .foreground; returns the whole foreground.
template <bool kSquare>
double sum_groups(const PixelOrder& order, float gamma, FocalFactors factors, const MatchingCostScratch& scratch) {
  double foreground = 0.0;
  for (int64_t g = 0; g < order.num_groups; ++g) {
    const GroupSums sums = sum_group<kSquare>(scratch.sorted, order.weight, order.begin[g], order.begin[g + 1], gamma);
    scratch.positive[g] = factors.positive * sums.positive;
    scratch.negative[g] = factors.negative * sums.negative;
    scratch.foreground[g] = sums.foreground;
    foreground += sums.foreground;
  }
  return foreground;
}

// Every group but void is a segment. What lies outside it is what comes before plus what comes after: the total less
// the inside would cancel.
void add_segments(const PixelOrder& order, const MatchingCostScratch& scratch) {
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
void add_masks(const ImageTargets& targets, int64_t num_segments, const MatchingCostScratch& scratch) {
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

// Masks that overlap in too many ways: each picks one of two terms for every pixel. Returns the whole foreground.
template <bool kSquare>
double sum_masks(const ImageTargets& targets, int64_t num_segments, float gamma, FocalFactors factors,
                 const MatchingCostScratch& scratch) {
  float* __restrict positive = scratch.tiles;
  float* __restrict negative = positive + kMatchingCostTile;
  float* __restrict inside = negative + kMatchingCostTile;
  std::fill(scratch.focal, scratch.focal + num_segments, 0.0);
  std::fill(scratch.inside, scratch.inside + num_segments, 0.0);
  double foreground = 0.0;
  const float positive_factor = static_cast<float>(factors.positive);
  const float negative_factor = static_cast<float>(factors.negative);
  const int64_t end = targets.order.begin[targets.order.num_groups];
  for (int64_t tile = 0; tile < end; tile += kMatchingCostTile) {
    const int64_t n = std::min(kMatchingCostTile, end - tile);
    const float* x = scratch.sorted + tile;
    const float* weight = targets.order.weight + tile;
    float tile_foreground = 0.0f;
#pragma omp simd reduction(+ : tile_foreground)
    for (int64_t i = 0; i < n; ++i) {
      const PixelTerms terms = pixel_terms<kSquare>(x[i], gamma);
      positive[i] = positive_factor * weight[i] * terms.positive;
      negative[i] = negative_factor * weight[i] * terms.negative;
      inside[i] = weight[i] * terms.foreground;
      tile_foreground += inside[i];
    }
    foreground += tile_foreground;
    for (int64_t t = 0; t < num_segments; ++t) {
      const uint8_t* __restrict mask = targets.sorted_masks + t * targets.stride + tile;
      float tile_focal = 0.0f, tile_inside = 0.0f;
#pragma omp simd reduction(+ : tile_focal, tile_inside)
      for (int64_t i = 0; i < n; ++i) {
        tile_focal += mask[i] != 0 ? positive[i] : negative[i];
        tile_inside += mask[i] != 0 ? inside[i] : 0.0f;
      }
      scratch.focal[t] += tile_focal;
      scratch.inside[t] += tile_inside;
    }
  }
  return foreground;
}

// Fills scratch.focal and scratch.inside for each segment; returns the sum of the foreground over all pixels.
template <bool kSquare>
double segment_sums(const MatchingCostParams& p, const ImageTargets& targets, int64_t num_segments,
                    const MatchingCostScratch& scratch) {
  const FocalFactors factors = focal_factors(p.alpha);
  if (targets.sorted_masks != nullptr) return sum_masks<kSquare>(targets, num_segments, p.gamma, factors, scratch);
  const double foreground = sum_groups<kSquare>(targets.order, p.gamma, factors, scratch);
  if (targets.member != nullptr) {
    add_masks(targets, num_segments, scratch);
  } else {
    add_segments(targets.order, scratch);
  }
  return foreground;
}

void cost_row(const MatchingCostParams& p, const MatchingCostScratch& scratch, int64_t index) {
  const int64_t image = index / p.queries % p.images;
  const ImageTargets& targets = p.targets[image];
  const int64_t num_segments = p.num_segments[image];
  const int64_t* labels = p.labels + image * p.segments;
  float* cost = p.cost + index * p.segments;
  std::fill(cost + num_segments, cost + p.segments, 0.0f);
  if (num_segments == 0) return;

  bool finite = true;
  for_float_type(p.class_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.class_logits) + index * (p.classes + 1);
    finite = softmax(logits, p.classes + 1, scratch.probability);
  });
  for_float_type(p.mask_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.mask_logits) + index * p.pixels;
    finite = load_row(logits, p.pixels, scratch.row) && finite;
  });
  if (!finite) {
    std::fill(cost, cost + num_segments, INFINITY);
    return;
  }

  sort_row(targets.order, scratch.row, scratch.sorted);
  const double foreground = p.gamma == 2.0f ? segment_sums<true>(p, targets, num_segments, scratch)
                                            : segment_sums<false>(p, targets, num_segments, scratch);
  const double pixels = static_cast<double>(std::max<int64_t>(targets.order.counted, 1));
  for (int64_t t = 0; t < num_segments; ++t) {
    const double dice =
        1.0 - (2.0 * scratch.inside[t] + 1.0) / (foreground + static_cast<double>(targets.area[t]) + 1.0);
    cost[t] = static_cast<float>(p.focal_weight * (scratch.focal[t] / pixels) + p.dice_weight * dice -
                                 static_cast<double>(p.class_weight) * scratch.probability[labels[t]]);
  }
}

}  // namespace

void matching_cost_fwd(const MatchingCostParams& params, const MatchingCostScratch& scratch, int64_t begin,
                       int64_t end) {
  for (int64_t index = begin; index < end; ++index) cost_row(params, scratch, index);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
