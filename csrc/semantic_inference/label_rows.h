// Labels of rows of pixels: scores in 16-bit fixed point first, then in float32 only where these leave a doubt.
//
// A score in integers comes with a proven reach. A class that is out of reach of the best one cannot be the label. The
// pixels that several classes can still have are summed again in float32, over all queries in their order. Labels are
// thus exactly those of the whole float32 sums.
#pragma once

#include "semantic_inference/exact_labels.h"
#include "semantic_inference/tile_plan.h"

#if defined(__AVX2__)
#include <algorithm>
#include <cstdint>
#include <vector>

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

class LabelRows {
 public:
  // Whether the fixed-point scores serve this grid and these probabilities.
  static bool serves(const LogitTiles& logits, const FixedClasses& classes) {
    return logits.columns().close() && classes.usable();
  }

  LabelRows(const LogitTiles& logits, const FixedClasses& classes)
      : logits_(logits),
        classes_(classes),
        taps_(logits.columns()),
        plans_(logits, classes, taps_.error()),
        sample_pitch_((most_samples(logits) + kLanes - 1) / kLanes * kLanes + kLanes),
        samples_(kMostRows * classes.pair_count() * sample_pitch_),
        masks_(classes.pair_count() * kTilePixels),
        pair_numbers_(classes.pair_count()),
        listed_(classes.classes() + kTileClasses),
        width_(classes.classes() + kTileClasses),
        lower_((classes.classes() + kTileClasses) * kTilePixels),
        exact_(logits, classes, sample_pitch_) {}

  // Writes the labels of rows [begin, end). Row y goes to to + y * width.
  void rows(int64_t begin, int64_t end, int64_t* to) {
    for (int64_t y = begin; y < end;) {
      const int64_t next = plans_.choose_rows(y, std::min(end, y + kMostRows));
      logits_.columns().taps() == 2 ? tiles<2>(y, next, to) : tiles<4>(y, next, to);
      y = next;
    }
  }

 private:
  // Rows [begin, end), which share the plans of their tiles.
  template <int kTaps>
  void tiles(int64_t begin, int64_t end, int64_t* to) {
    const int64_t width = logits_.width();
    for (int64_t y = begin; y < end; ++y) sources_[y - begin] = plans_.sources(y);
    for (int64_t x = 0, tile = 0; x < width; x += kTilePixels, ++tile) {
      const int64_t count = std::min(kTilePixels, width - x), rows = end - begin;
      const TilePlan& plan = plans_.tile(tile);
      int64_t* labels = to + begin * width + x;
      if (plan.label >= 0) {
        for (int64_t row = 0; row < rows; ++row) std::fill_n(labels + row * width, count, int64_t{plan.label});
        continue;
      }
      if (!plan.whole) round_samples(tile, rows);
      for (int64_t row = 0; row < rows; ++row) {
        if (plan.whole) {
          whole_tile<kTaps>(tile, row, count);
        } else {
          make_masks<kTaps>(tile, samples_.data() + row * classes_.pair_count() * sample_pitch_);
          const int64_t listed = score(tile, count);
          blended_ = false;
          for (int v = 0; v * kLanes < count; ++v) decide<kTaps>(tile, row, v, count, listed);
        }
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) labels[row * width + i] = labels_[i];
      }
      exact_.settle<kTaps>(tile, sources_, labels);
    }
  }

  // The samples behind the tile, of the pairs that it keeps, in 16 bits, for the rows.
  void round_samples(int64_t tile, int64_t rows) {
    switch (sources_[0].count) {
      case 1:
        return round_blends<1>(tile, rows);
      case 2:
        return round_blends<2>(tile, rows);
      case 3:
        return round_blends<3>(tile, rows);
      default:
        return round_blends<4>(tile, rows);
    }
  }
  // A row of samples is a blend of kStored stored rows.
  template <int kStored>
  __attribute__((noinline)) void round_blends(int64_t tile, int64_t rows) {
    const TilePlan& plan = plans_.tile(tile);
    const KeptPair* pairs = plans_.pairs(tile);
    const ColumnTaps::Samples range = logits_.samples()[tile];
    const int64_t row_pitch = classes_.pair_count() * sample_pitch_;
    const float scale = std::ldexp(kLogitSteps, -plan.halvings);
    float weight[kMostRows][kStored];
    for (int64_t row = 0; row < rows; ++row) {
      for (int i = 0; i < kStored; ++i) weight[row][i] = scale * sources_[row].weight[i];
    }
    const float* stored[kStored];
    for (int i = 0; i < kStored; ++i) stored[i] = sources_[0].rows[i];
    int32_t* to = samples_.data() - range.first;
    for (int64_t j = 0; j < plan.kept; ++j, to += sample_pitch_) {
      const int64_t low = 2 * pairs[j].pair * sources_[0].pitch;
      const int64_t high = std::min(2 * pairs[j].pair + int64_t{1}, classes_.active() - 1) * sources_[0].pitch;
      pair_numbers_[j] = pairs[j].pair;
      for (int64_t x = range.first; x <= range.last; x += kLanes) {
        FloatVec of_low[kStored], of_high[kStored];
        for (int i = 0; i < kStored; ++i) {
          of_low[i] = load<FloatVec>(stored[i] + low + x);
          of_high[i] = load<FloatVec>(stored[i] + high + x);
        }
        int32_t* sample = to + x;
        for (int64_t row = 0; row < rows; ++row, sample += row_pitch) {
          FloatVec a = broadcast(weight[row][0]) * of_low[0], b = broadcast(weight[row][0]) * of_high[0];
          for (int i = 1; i < kStored; ++i) {
            a += broadcast(weight[row][i]) * of_low[i];
            b += broadcast(weight[row][i]) * of_high[i];
          }
          const IntVec both = (round_to_int(a) & 0xffff) | (round_to_int(b) << 16);
          std::memcpy(sample, &both, sizeof(both));
        }
      }
    }
  }

  // The masks of the pairs that the tile keeps.
  template <int kTaps>
  __attribute__((noinline)) void make_masks(int64_t tile, const int32_t* row) {
    const TilePlan& plan = plans_.tile(tile);
    const KeptPair* pairs = plans_.pairs(tile);
    const int64_t first = logits_.samples()[tile].first;
    const int64_t last = logits_.columns().vectors() - 1, n = plan.kept, pitch = sample_pitch_;
    const int halvings = plan.halvings;
    const FixedSigmoid fixed_sigmoid;
    for (int v = 0; v < kTileVectors; ++v) {
      const auto taps = taps_.vector<kTaps>(first, std::min(tile * kTileVectors + v, last));
      const int32_t* samples = row;
      int32_t* to = masks_.data() + v * kLanes;
      for (int64_t j = 0; j < n; ++j, samples += pitch, to += kTilePixels) {
        const IntVec mask = (IntVec)fixed_sigmoid(taps.resize(samples), halvings) & (IntVec{} + pairs[j].halves);
        std::memcpy(to, &mask, sizeof(mask));
      }
    }
  }

  // Lists the classes that can be largest somewhere in the tile, with the lower bound of each score. Returns how many.
  __attribute__((noinline)) int64_t score(int64_t tile, int64_t count) {
    const TilePlan& plan = plans_.tile(tile);
    int64_t listed = 0;
    for (int64_t k : plan.first_classes) {
      if (k >= 0) listed_[listed++] = static_cast<int32_t>(k);
    }
    const int64_t first = listed;
    for (int v = 0; v < kTileVectors; ++v) best_[v] = IntVec{} + INT32_MIN;
    score_classes(tile, 0, listed);
    if (listed == classes_.classes()) return listed;
    IntVec least = IntVec{} + INT32_MAX;
    for (int v = 0; v * kLanes < count; ++v) {
      const IntVec exists = lane_numbers() < static_cast<int32_t>(count - v * kLanes);
      least = (exists & (best_[v] < least)) ? best_[v] : least;
    }
    const float sure = -max_lanes(-__builtin_convertvector(least, FloatVec)) - 256.0f;  // less what float32 rounds
    // A class below this everywhere is not the label of any pixel.
    const auto needed = static_cast<float>((static_cast<double>(sure) + kScoreOrigin) / classes_.units() * 0.9999);
    const float* bounds = plans_.bounds(tile);
    for (int64_t k = 0; k < classes_.pitch(); k += kLanes) {
      for (uint32_t lanes = true_lanes(load<FloatVec>(bounds + k) >= needed); lanes != 0; lanes &= lanes - 1) {
        const int64_t next = k + __builtin_ctz(lanes);
        if (next >= classes_.classes()) break;
        listed_[listed++] = static_cast<int32_t>(next);
      }
    }
    for (int64_t from = first; from < listed; from += kTileClasses) {
      score_classes(tile, from, std::min(from + kTileClasses, listed));
    }
    return listed;
  }

  // Scores listed classes [from, to), at most kTileClasses.
  __attribute__((noinline)) void score_classes(int64_t tile, int64_t from, int64_t to) {
    const TilePlan& plan = plans_.tile(tile);
    const int32_t* factors[kTileClasses];
    IntVec start[kTileClasses];
    for (int i = 0; i < kTileClasses; ++i) {
      const int64_t k = listed_[std::min(from + i, to - 1)];
      const FixedClasses::Reach reach = classes_.reach(k, plan.mask_error, plans_.left_out(tile)[k]);
      factors[i] = classes_.pairs(k);
      start[i] = IntVec{} + (-kScoreOrigin - reach.below);
      if (from + i < to) width_[from + i] = reach.below + reach.above;
    }
    IntVec sums[kTileClasses][kTileVectors];
    if (to - from <= 2) {
      score_pairs<2>(factors, plan.kept, start, sums);
    } else if (to - from <= 4) {
      score_pairs<4>(factors, plan.kept, start, sums);
    } else {
      score_pairs<kTileClasses>(factors, plan.kept, start, sums);
    }
    for (int i = 0; from + i < to && i < kTileClasses; ++i) {
      for (int v = 0; v < kTileVectors; ++v) {
        std::memcpy(lower_.data() + (from + i) * kTilePixels + v * kLanes, &sums[i][v], sizeof(IntVec));
        best_[v] = sums[i][v] > best_[v] ? sums[i][v] : best_[v];
      }
    }
  }

  template <int kCount>
  inline __attribute__((always_inline)) void score_pairs(const int32_t* const (&factors)[kTileClasses], int64_t n,
                                                         const IntVec (&start)[kTileClasses],
                                                         IntVec (&sums)[kTileClasses][kTileVectors]) const {
    IntVec acc[kCount][kTileVectors];
    for (int i = 0; i < kCount; ++i) {
      for (int v = 0; v < kTileVectors; ++v) acc[i][v] = start[i];
    }
    for (int64_t j = 0; j < n; ++j) {
      const int32_t* column = masks_.data() + j * kTilePixels;
      const int32_t pair = pair_numbers_[j];
#pragma GCC unroll 6
      for (int i = 0; i < kCount; ++i) {
        const IntVec factor = IntVec{} + factors[i][pair];
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v) {
          acc[i][v] += multiply_pairs(factor, load<IntVec>(column + v * kLanes));
        }
      }
    }
    for (int i = 0; i < kCount; ++i) {
      for (int v = 0; v < kTileVectors; ++v) sums[i][v] = acc[i][v];
    }
  }

  // The labels of vector v of the tile. Pixels in doubt get theirs at once, or are noted.
  template <int kTaps>
  __attribute__((noinline)) void decide(int64_t tile, int64_t row, int v, int64_t count, int64_t listed) {
    IntVec label{}, seen{}, several{};
    for (int64_t i = 0; i < listed; ++i) {
      const IntVec reaches = in_reach(i, v);
      label = reaches ? IntVec{} + listed_[i] : label;
      several |= seen & reaches;
      seen |= reaches;
    }
    several &= lane_numbers() < static_cast<int32_t>(count - v * kLanes);
    if (uint32_t lanes = true_lanes(several); lanes != 0) {
      for (int64_t i = 0; i < listed; ++i) {
        if (true_lanes(in_reach(i, v) & several) != 0) exact_.allow(listed_[i]);
      }
      if (exact_.scatters(tile)) {
        for (; lanes != 0; lanes &= lanes - 1) exact_.doubt(row, v * kLanes + __builtin_ctz(lanes));
      } else {
        const IntVec exact = exact_.vector<kTaps>(tile, v, sources_[row], blended_);
        blended_ = true;
        label = several ? exact : label;
      }
    }
    std::memcpy(labels_ + v * kLanes, &label, sizeof(label));
  }

  // The pixels of vector v where listed class i can be largest.
  inline __attribute__((always_inline)) IntVec in_reach(int64_t i, int v) const {
    return load<IntVec>(lower_.data() + i * kTilePixels + v * kLanes) + width_[i] >= best_[v];
  }

  template <int kTaps>
  void whole_tile(int64_t tile, int64_t row, int64_t count) {
    for (int v = 0; v * kLanes < count; ++v) {
      for (int64_t k = 0; k < classes_.classes(); ++k) exact_.allow(k);
      const IntVec label = exact_.vector<kTaps>(tile, v, sources_[row], v > 0);
      std::memcpy(labels_ + v * kLanes, &label, sizeof(label));
    }
  }

  static constexpr int64_t kMostRows = 8;  // that are done together

  const LogitTiles& logits_;
  const FixedClasses& classes_;
  FixedTaps taps_;
  TilePlans plans_;
  StoredRows::Sources sources_[kMostRows];  // the stored rows behind each row of the tile
  int64_t sample_pitch_;                    // at least the samples behind a tile, and what vectors may read beyond
  AlignedVector<int32_t> samples_;          // (kMostRows, pairs, sample_pitch) of the kept ones
  AlignedVector<int32_t> masks_;            // (pairs, kTilePixels)
  std::vector<int32_t> pair_numbers_;       // (pairs,) of the kept ones
  std::vector<int32_t> listed_, width_;     // (classes,) and how much above the lower bound a score can be
  AlignedVector<int32_t> lower_;            // (classes, kTilePixels): the lower bounds of the scores
  IntVec best_[kTileVectors];               // the largest of them
  ExactLabels exact_;
  alignas(64) int32_t labels_[kTilePixels];
  bool blended_ = false;  // whether exact_ has the row of this tile
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
