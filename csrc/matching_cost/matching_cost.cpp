// CPU kernel of matching_cost: one pass over a query's mask logits gives its focal and dice cost with every segment.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "matching_cost/group_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Converts a row to float. Returns whether all of it is finite.
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

// Copies a row's runs to their places, in whole blocks. What a block writes behind its run is overwritten by the next
// run, or it lies in the padding. Any finite number will do there.
void sort_row(const PixelOrder& order, const float* row, float* sorted) {
  constexpr int64_t lanes = kMatchingCostLanes;
  for (int64_t r = 0; r < order.num_runs; ++r) {
    const float* source = row + order.source[r];
    float* destination = sorted + order.destination[r];
    for (int32_t i = 0; i < order.length[r]; i += lanes)
      std::memcpy(destination + i, source + i, lanes * sizeof(float));
  }
}

// Sums each group into scratch.foreground, .background and, with their factors, .positive and .negative. Returns the
// whole foreground.
template <bool kSquare>
double sum_groups(const PixelOrder& order, float gamma, FocalFactors factors, const MatchingCostScratch& scratch) {
  double foreground = 0.0;
  for (int64_t g = 0; g < order.num_groups; ++g) {
    const GroupSums sums = sum_group<kSquare>(scratch.sorted, order.weight, order.begin[g], order.begin[g + 1], gamma);
    scratch.positive[g] = factors.positive * sums.positive;
    scratch.negative[g] = factors.negative * sums.negative;
    scratch.foreground[g] = sums.foreground;
    scratch.background[g] = sums.background;
    foreground += sums.foreground;
  }
  return foreground;
}

// Sums masks that overlap in too many ways to have groups. Each mask picks one of two terms per pixel. Returns the
// whole foreground.
template <bool kSquare>
double sum_masks(const ImageTargets& targets, int64_t num_segments, float gamma, FocalFactors factors,
                 const MatchingCostScratch& scratch) {
  float* __restrict positive = scratch.tiles;
  float* __restrict negative = positive + kMatchingCostTile;
  float* __restrict foreground = negative + kMatchingCostTile;
  float* __restrict background = foreground + kMatchingCostTile;
  std::fill(scratch.focal, scratch.focal + num_segments, 0.0);
  std::fill(scratch.wrong, scratch.wrong + num_segments, 0.0);
  double total = 0.0;
  const float positive_factor = static_cast<float>(factors.positive);
  const float negative_factor = static_cast<float>(factors.negative);
  const int64_t end = targets.order.begin[targets.order.num_groups];
  // Twice as many floats as elsewhere are added, since the sums over lanes count for more here.
  constexpr int64_t tile_pixels = std::min<int64_t>(kMatchingCostTile, 2 * kFloatRun * kLanes);
  for (int64_t tile = 0; tile < end; tile += tile_pixels) {
    const int64_t n = std::min(tile_pixels, end - tile);
    const float* x = scratch.sorted + tile;
    const float* weight = targets.order.weight + tile;
    float tile_foreground = 0.0f;
#pragma omp simd reduction(+ : tile_foreground)
    for (int64_t i = 0; i < n; ++i) {
      const PixelTerms<float> terms = pixel_terms<kSquare>(x[i], gamma);
      positive[i] = positive_factor * weight[i] * terms.positive;
      negative[i] = negative_factor * weight[i] * terms.negative;
      foreground[i] = weight[i] * terms.foreground;
      background[i] = weight[i] * terms.background;
      tile_foreground += foreground[i];
    }
    total += tile_foreground;
    for (int64_t t = 0; t < num_segments; ++t) {
      const uint8_t* __restrict mask = targets.sorted_masks + t * targets.stride + tile;
      float tile_focal = 0.0f, tile_wrong = 0.0f;
#pragma omp simd reduction(+ : tile_focal, tile_wrong)
      for (int64_t i = 0; i < n; ++i) {
        tile_focal += mask[i] != 0 ? positive[i] : negative[i];
        tile_wrong += mask[i] != 0 ? background[i] : foreground[i];
      }
      scratch.focal[t] += tile_focal;
      scratch.wrong[t] += tile_wrong;
    }
  }
  return total;
}

// Fills scratch.focal and scratch.wrong for each segment. Returns the sum of the foreground over all pixels.
template <bool kSquare>
double segment_sums(const MatchingCostParams& p, const ImageTargets& targets, int64_t num_segments,
                    const MatchingCostScratch& scratch) {
  const FocalFactors factors = focal_factors(p.alpha);
  if (targets.sorted_masks != nullptr) return sum_masks<kSquare>(targets, num_segments, p.gamma, factors, scratch);
  const double foreground = sum_groups<kSquare>(targets.order, p.gamma, factors, scratch);
  add_groups(targets, num_segments, scratch);
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

  bool finite = class_probability(p, index, scratch);
  for_float_type(p.mask_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.mask_logits) + (index - p.first_row) * p.pixels;
    finite = load_row(logits, p.pixels, scratch.row) && finite;
  });
  if (!finite) {
    std::fill(cost, cost + num_segments, INFINITY);
    return;
  }

  sort_row(targets.order, scratch.row, scratch.sorted);
  const double foreground = p.gamma == 2.0f ? segment_sums<true>(p, targets, num_segments, scratch)
                                            : segment_sums<false>(p, targets, num_segments, scratch);
  write_costs(p, targets, num_segments, foreground, labels, scratch, cost);
}

}  // namespace

void matching_cost_fwd(const MatchingCostParams& params, const MatchingCostScratch& scratch, int64_t begin,
                       int64_t end) {
  for (int64_t index = begin; index < end; ++index) cost_row(params, scratch, index);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
