// From logits at points to sums over segments, and from those to costs. The CPU kernels of point_matching_cost and
// point_matching_cost_from_embeddings share it.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "common/math.h"
#include "matching_cost/group_sums.h"
#include "point_matching_cost/point_matching_cost.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

static_assert(kPointTile <= kFloatRun && kQueryBlock % kLanes == 0);

// The terms of a tile's points, for as many queries as a vector has.
struct PointTerms {
  FloatVec positive[kPointTile], negative[kPointTile], foreground[kPointTile], background[kPointTile];
};

inline __attribute__((always_inline)) void add_lanes(FloatVec vec, double* to) {
  typedef double DoubleVec __attribute__((vector_size(8 * kLanes)));
  DoubleVec sum;
  std::memcpy(&sum, to, sizeof(sum));
  sum += __builtin_convertvector(vec, DoubleVec);
  std::memcpy(to, &sum, sizeof(sum));
}

// Computes the terms of `count` points. Logits of a point lie `stride` apart. Marks the lanes of queries that have a
// logit that is not finite.
inline void compute_terms(const float* logits, int64_t stride, int64_t count, PointTerms& terms, IntVec& wrong) {
  for (int64_t i = 0; i < count; ++i) {
    const FloatVec x = load<FloatVec>(logits + i * stride);
    const Logistic<FloatVec> p = logistic(x);
    terms.positive[i] = p.softplus_negative;
    terms.negative[i] = p.softplus;
    terms.foreground[i] = p.sigmoid;
    terms.background[i] = p.sigmoid_complement;
    const FloatVec magnitude = negative_magnitude(x);
    wrong |= ~(magnitude >= -FLT_MAX + FloatVec{});  // NaN is not finite either
  }
}

// Adds a tile to the sums of its groups, four rows each.
inline void add_groups_of_tile(const PointTargets& targets, int64_t tile, const PointTerms& terms, double* sums,
                               int64_t stride) {
  for (int32_t g = targets.tile_begin[tile]; g < targets.tile_begin[tile + 1]; ++g) {
    const TileGroup& group = targets.groups[g];
    FloatVec positive{}, negative{}, foreground{}, background{};
    for (int32_t s = group.begin; s < group.end; ++s) {
      const FloatVec share = broadcast(targets.shares[s].share);
      const int32_t point = targets.shares[s].point;
      positive += share * terms.positive[point];
      negative += share * terms.negative[point];
      foreground += share * terms.foreground[point];
      background += share * terms.background[point];
    }
    double* to = sums + 4 * group.group * stride;
    add_lanes(positive, to);
    add_lanes(negative, to + stride);
    add_lanes(foreground, to + 2 * stride);
    add_lanes(background, to + 3 * stride);
  }
}

// The sums of a mask over the points of a tile, two rows each.
struct MaskRows {
  const float* inside;  // (kPointTile,) the mask's share of each point
  double* sums;
};

// Adds a tile to the sums of `kMasks` masks.
template <int kMasks>
inline __attribute__((always_inline)) void add_masks(const MaskRows (&masks)[kMasks], int64_t count,
                                                     const PointTerms& terms, int64_t stride) {
  FloatVec entropy[kMasks][2]{}, wrong[kMasks][2]{};
  for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 2
    for (int m = 0; m < kMasks; ++m) {
      const FloatVec share = broadcast(masks[m].inside[i]), rest = 1.0f - share;
      entropy[m][0] += share * terms.positive[i];
      entropy[m][1] += rest * terms.negative[i];
      wrong[m][0] += share * terms.background[i];
      wrong[m][1] += rest * terms.foreground[i];
    }
  }
  for (int m = 0; m < kMasks; ++m) {
    add_lanes(entropy[m][0] + entropy[m][1], masks[m].sums);
    add_lanes(wrong[m][0] + wrong[m][1], masks[m].sums + stride);
  }
}

// Whether a mask has a share of any point of a whole tile.
inline bool has_share(const float* inside) {
  IntVec any{};
  for (int64_t i = 0; i < kPointTile; i += kLanes) any |= load<IntVec>(inside + i);
  return true_lanes(any != 0) != 0;
}

// Adds a tile to the sums of masks, and to the whole foreground behind them. Most masks have no share of most tiles.
// Others are taken in pairs, as their sums wait for each other.
inline void add_masks_of_tile(const PointTargets& targets, int64_t num_segments, int64_t tile, int64_t count,
                              const PointTerms& terms, double* sums, int64_t stride) {
  const float* inside = targets.inside + tile * num_segments * kPointTile;
  FloatVec negative{}, foreground{};
  for (int64_t i = 0; i < count; ++i) {
    negative += terms.negative[i];
    foreground += terms.foreground[i];
  }
  MaskRows left = {};
  for (int64_t t = 0; t < num_segments; ++t) {
    const MaskRows mask = {.inside = inside + t * kPointTile, .sums = sums + 2 * t * stride};
    if (count == kPointTile && !has_share(mask.inside)) {
      add_lanes(negative, mask.sums);
      add_lanes(foreground, mask.sums + stride);
    } else if (left.sums == nullptr) {
      left = mask;
    } else {
      add_masks<2>({left, mask}, count, terms, stride);
      left = {};
    }
  }
  if (left.sums != nullptr) add_masks<1>({left}, count, terms, stride);
  add_lanes(foreground, sums + 2 * num_segments * stride);
}

// Adds the tiles [begin, end) of logits (points of the tiles, stride) to the sums of as many queries as a vector has.
inline void add_tile(const PointTargets& targets, int64_t num_segments, int64_t tile, const float* logits,
                     int64_t logits_stride, const PointSums& sums, int64_t lane, IntVec& wrong) {
  const int64_t count = std::min(kPointTile, targets.count - tile * kPointTile);
  PointTerms terms;
  compute_terms(logits + lane, logits_stride, count, terms, wrong);
  if (targets.inside == nullptr) {
    add_groups_of_tile(targets, tile, terms, sums.sums + lane, sums.stride);
  } else {
    add_masks_of_tile(targets, num_segments, tile, count, terms, sums.sums + lane, sums.stride);
  }
}

// Every group but void is a segment. The outside of a segment is summed as what comes before plus what comes after it.
// The total less the inside would cancel. Afterwards the first row of each segment has its cross-entropy, and the last
// row the numerator of its dice cost. Returns the whole foreground.
inline double complete_segments(int64_t num_segments, double* sums, int64_t stride) {
  const auto at = [&](int64_t group, int64_t row) -> double& { return sums[(4 * group + row) * stride]; };
  double before[2] = {}, after[2] = {at(num_segments, 1), at(num_segments, 2)};
  for (int64_t t = 0; t < num_segments; ++t) {
    at(t, 0) += before[0];
    at(t, 3) += before[1];
    before[0] += at(t, 1);
    before[1] += at(t, 2);
  }
  const double foreground = before[1] + after[1];
  for (int64_t t = num_segments - 1; t >= 0; --t) {
    at(t, 0) += after[0];
    at(t, 3) += after[1];
    after[0] += at(t, 1);
    after[1] += at(t, 2);
  }
  return foreground;
}

// Writes the costs of a query from its sums, which lie `stride` apart and are used up.
inline void write_point_costs(const PointCostParams& p, const PointTargets& targets, int64_t row, bool finite,
                              double* sums, int64_t stride, float* probability) {
  const int64_t image = row / p.queries % p.images, num_segments = p.num_segments[image];
  const int64_t* labels = p.labels + image * p.segments;
  float* cost = p.cost + row * p.segments;
  std::fill(cost + num_segments, cost + p.segments, 0.0f);
  if (num_segments == 0) return;
  for_float_type(p.class_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.class_logits) + row * (p.classes + 1);
    finite = softmax(logits, p.classes + 1, probability) && finite;
  });
  if (!finite) {
    std::fill(cost, cost + num_segments, INFINITY);
    return;
  }
  const bool from_masks = targets.inside != nullptr;
  const int64_t rows = from_masks ? 2 : 4;
  const double foreground =
      from_masks ? sums[2 * num_segments * stride] : complete_segments(num_segments, sums, stride);
  const auto points = static_cast<double>(std::max<int64_t>(targets.count, 1));
  for (int64_t t = 0; t < num_segments; ++t) {
    const double entropy = sums[rows * t * stride], wrong = sums[(rows * t + rows - 1) * stride];
    const double dice = wrong / (foreground + targets.area[t] + 1.0);  // as in group_sums.h
    cost[t] = static_cast<float>(p.mask_weight * (entropy / points) + p.dice_weight * dice -
                                 static_cast<double>(p.class_weight) * probability[labels[t]]);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
