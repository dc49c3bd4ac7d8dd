// What bounds say of a tile of pixels before any pixel is looked at: which queries and classes can matter there.
//
// The output rows between two stored rows share these bounds. They are found once for all of them.
#pragma once

#include "semantic_inference/fixed_classes.h"

#if defined(__AVX2__)
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/mask_tiles.h"
#include "common/math.h"
#include "semantic_inference/score_tile.h"
#include "semantic_inference/stored_rows.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// A pair of queries that a tile keeps.
struct KeptPair {
  int32_t pair;
  int32_t halves;  // all bits of the halves whose query is kept
};

struct TilePlan {
  int32_t label;                        // of every pixel, where the bounds alone tell it, or -1
  bool whole;                           // bounds and integers say nothing here: add up everything in float32
  int64_t kept;                         // how many pairs
  int halvings;                         // of their logits, so that 16 bits hold them
  float mask_error;                     // of any mask of these, in units of 1 / kOne
  int64_t first_classes[kTileClasses];  // those that can be largest, by their bounds
};

class TilePlans {
 public:
  TilePlans(const LogitTiles& logits, const FixedClasses& classes, float steps)
      : classes_(classes),
        steps_(steps),
        rounding_(1.0001f + 2.5e-7f * static_cast<float>(classes.active())),
        tiles_(static_cast<int64_t>(logits.samples().size())),
        pitch_((classes.active() + kLanes) / kLanes * kLanes),
        rows_(logits, classes.active(), pitch_),
        top_(pitch_, 0.0f),
        mask_bound_(pitch_),
        least_(pitch_),
        plans_(tiles_),
        pairs_(tiles_ * classes.pair_count()),
        bound_(tiles_ * classes.pitch()),
        left_out_(tiles_ * classes.pitch()),
        kept_(classes.active()),
        others_(classes.active() + 1) {
    for (int64_t q = 0; q < classes.active(); ++q) {
      top_[q] = *std::max_element(classes.row(q), classes.row(q) + classes.classes());
    }
  }

  // Plans the tiles of output row y, and of the rows below it that are made of the same stored rows. Returns the first
  // that is not, at most `end`.
  int64_t choose_rows(int64_t y, int64_t end) {
    const int64_t next = rows_.choose(y, end);
    for (int64_t tile = 0; tile < tiles_; ++tile) plan(tile);
    return next;
  }
  StoredRows::Sources sources(int64_t y) const { return rows_.sources(y); }

  const TilePlan& tile(int64_t tile) const { return plans_[tile]; }
  const KeptPair* pairs(int64_t tile) const { return pairs_.data() + tile * classes_.pair_count(); }
  // By class: a bound on the score, and on the part of the queries that are not kept. The first classes have no bound.
  const float* bounds(int64_t tile) const { return bound_.data() + tile * classes_.pitch(); }
  const float* left_out(int64_t tile) const { return left_out_.data() + tile * classes_.pitch(); }

 private:
  static constexpr float kNegligible = 5e-4f;  // a query is left out where it adds less than this to every class

  void plan(int64_t tile) {
    TilePlan& to = plans_[tile];
    to.label = -1;
    to.whole = false;
    for (int i = 0; i < rows_.count(); ++i) to.whole = to.whole || !rows_.row(i).finite;
    if (to.whole) return;
    float rest;
    const float largest = keep_queries(tile, rest);
    float* bound = bound_.data() + tile * classes_.pitch();
    float* left_out = left_out_.data() + tile * classes_.pitch();
    weigh(kept_.data(), kept_count_, bound);
    to.label = sure_label(bound, rest);
    if (to.label >= 0) return;
    list_others();
    weigh(others_.data(), other_count_, left_out);
    FloatVec most_left_out{};
    for (int64_t k = 0; k < classes_.pitch(); k += kLanes) {
      const FloatVec next = load<FloatVec>(left_out + k);
      store(bound + k, load<FloatVec>(bound + k) + next);
      most_left_out = next > most_left_out ? next : most_left_out;
    }
    choose_classes(bound, to.first_classes);
    to.halvings = halvings_for(largest);
    to.mask_error = mask_error(steps_, to.halvings);
    to.whole = to.halvings > kMostHalvings || !classes_.in_reach(to.mask_error, max_lanes(most_left_out));
  }

  // Lists the queries and pairs that the tile keeps. Other queries add at most `rest` to a score. Returns the largest
  // logit of the kept ones.
  float keep_queries(int64_t tile, float& rest) {
    KeptPair* pair = pairs_.data() + tile * classes_.pair_count();
    FloatVec largest{}, negligible{};
    kept_count_ = 0;
    int64_t pairs = 0;
    for (int64_t first = 0; first < classes_.active(); first += kLanes) {
      FloatVec most = broadcast(-1e30f), least = broadcast(1e30f);
      for (int i = 0; i < rows_.count(); ++i) {
        const StoredRows::HeldRow& row = rows_.row(i);
        const FloatVec high = load<FloatVec>(row.most.data() + tile * pitch_ + first);
        const FloatVec low = load<FloatVec>(row.least.data() + tile * pitch_ + first);
        most = high > most ? high : most;
        least = low < least ? low : least;
      }
      const FloatVec mask = rounding_ * sigmoid(most), adds = mask * load<FloatVec>(top_.data() + first);
      store(mask_bound_.data() + first, mask);
      store(least_.data() + first, least);
      const IntVec keeps = adds > kNegligible;
      const FloatVec magnitude = most > -least ? most : -least;
      largest = (keeps & (magnitude > largest)) ? magnitude : largest;
      negligible += keeps ? FloatVec{} : adds;
      const uint32_t kept = true_lanes(keeps);
      const auto query = static_cast<int32_t>(first);
      for (uint32_t lanes = kept; lanes != 0; lanes &= lanes - 1) kept_[kept_count_++] = query + __builtin_ctz(lanes);
      for (uint32_t lanes = (kept | kept >> 1) & 0x5555; lanes != 0; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        const uint32_t halves = (kept >> lane & 1 ? 0xffffu : 0u) | (kept >> lane & 2 ? 0xffff0000u : 0u);
        pair[pairs++] = {(query + lane) / 2, static_cast<int32_t>(halves)};
      }
    }
    plans_[tile].kept = pairs;
    rest = rounding_ * sum_lanes(negligible);
    return max_lanes(largest);
  }

  void list_others() {
    int64_t kept = 0;
    other_count_ = 0;
    for (int64_t q = 0; q < classes_.active(); ++q) {
      const bool keeps = kept < kept_count_ && kept_[kept] == q;
      kept += keeps;
      others_[other_count_] = static_cast<int32_t>(q);
      other_count_ += !keeps;
    }
  }

  // The class that is largest at every pixel of the tile, or -1 where the bounds do not tell. The smallest samples
  // bound its score from below. Others have at most their bounds by the kept queries, and `rest`.
  int32_t sure_label(const float* bound, float rest) {
    FloatVec best = broadcast(-1.0f), second = broadcast(-1.0f);
    for (int64_t k = 0; k < classes_.pitch(); k += kLanes) {
      const FloatVec next = load<FloatVec>(bound + k);
      const FloatVec lower = next < best ? next : best;
      second = lower > second ? lower : second;
      best = next > best ? next : best;
    }
    const float largest = max_lanes(best);
    const float* place = std::find(bound, bound + classes_.classes(), largest);
    const auto label = static_cast<int32_t>(place - bound);
    if (label == classes_.classes()) return -1;
    const FloatVec others = lane_numbers() == label % kLanes ? broadcast(-1.0f) : best;
    const float most = rounding_ * (max_lanes(others > second ? others : second) + rest);
    if (largest <= most) return -1;
    for (int64_t q = 0; q < pitch_; q += kLanes) store(least_.data() + q, sigmoid(load<FloatVec>(least_.data() + q)));
    float least = 0.0f;
    for (int64_t j = 0; j < kept_count_; ++j) least += least_[kept_[j]] * classes_.row(kept_[j])[label];
    return least > rounding_ * rounding_ * most ? label : -1;
  }

  // sums[k] = what the n listed queries add to class k at most.
  void weigh(const int32_t* query, int64_t n, float* sums) const {
    int64_t k = 0;
    for (; k + 4 * kLanes <= classes_.pitch(); k += 4 * kLanes) weigh_vectors<4>(query, n, k, sums);
    for (; k + 2 * kLanes <= classes_.pitch(); k += 2 * kLanes) weigh_vectors<2>(query, n, k, sums);
    for (; k < classes_.pitch(); k += kLanes) weigh_vectors<1>(query, n, k, sums);
  }
  template <int kVectors>
  void weigh_vectors(const int32_t* query, int64_t n, int64_t k, float* sums) const {
    FloatVec sum[kVectors] = {};
    for (int64_t i = 0; i < n; ++i) {
      const FloatVec mask = broadcast(mask_bound_[query[i]]);
      const float* row = classes_.row(query[i]) + k;
      for (int v = 0; v < kVectors; ++v) sum[v] += mask * load<FloatVec>(row + v * kLanes);
    }
    for (int v = 0; v < kVectors; ++v) store(sums + k + v * kLanes, rounding_ * sum[v]);
  }

  // The classes with the largest bounds, as many as are summed at a time. Their bounds are not needed any more.
  void choose_classes(float* bound, int64_t (&chosen)[kTileClasses]) const {
    float value[kTileClasses];
    int64_t count = 0;
    for (int64_t k = 0; k < classes_.classes(); ++k) {
      if (count == kTileClasses && !(bound[k] > value[count - 1])) continue;
      int64_t place = count < kTileClasses ? count++ : count - 1;
      for (; place > 0 && bound[k] > value[place - 1]; --place) {
        value[place] = value[place - 1];
        chosen[place] = chosen[place - 1];
      }
      value[place] = bound[k];
      chosen[place] = k;
    }
    // Where few classes stand out, one of them mostly rules out the others.
    while (count > 2 && value[count - 1] < 0.25f * value[0]) --count;
    for (int64_t i = 0; i < count; ++i) bound[chosen[i]] = -INFINITY;
    for (; count < kTileClasses; ++count) chosen[count] = -1;
  }

  const FixedClasses& classes_;
  float steps_;     // by how many a resized logit may be wrong
  float rounding_;  // a factor for what rounding may take from a bound
  int64_t tiles_, pitch_;
  StoredRows rows_;
  AlignedVector<float> top_, mask_bound_,
      least_;  // (pitch,): the largest class probability and mask, and the least of masks
  std::vector<TilePlan> plans_;
  std::vector<KeptPair> pairs_;            // (tiles, pairs)
  AlignedVector<float> bound_, left_out_;  // (tiles, classes)
  std::vector<int32_t> kept_, others_;
  int64_t kept_count_ = 0, other_count_ = 0;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
