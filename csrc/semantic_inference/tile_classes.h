// Which classes can be the best in a tile of an output whose scores are resized from two rows of another grid.
//
// Resized scores are convex combinations of samples. A class whose largest sample under a tile is below what the best
// class has at each pixel is not looked at. Two classes, those with the largest samples, say what the best has at
// least.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/mask_tiles.h"
#include "semantic_inference/score_tile.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

class TileClasses {
 public:
  TileClasses(int64_t classes, const std::vector<ColumnTaps::Samples>& samples)
      : classes_(classes),
        pitch_((classes + kLanes - 1) / kLanes * kLanes),
        samples_(samples),
        most_{AlignedVector<float>(tiles() * pitch_, -1.0f), AlignedVector<float>(tiles() * pitch_, -1.0f)},
        pair_(tiles() * pitch_, -1.0f),
        largest_(2 * tiles()),
        listed_(classes) {}

  // Notes the samples of a row of the other grid, class k at row + k * pitch. Even and odd rows replace each other.
  void note_row(int64_t y, const float* row, int64_t pitch) {
    float* most = most_[y & 1].data();
    for (int64_t k = 0; k < classes_; ++k) {
      for (int64_t tile = 0; tile < tiles(); ++tile) {
        most[tile * pitch_ + k] = largest_sample(row + k * pitch, samples_[tile]);
      }
    }
    lower_ = -1;
  }

  // Chooses the rows that an output row is made of.
  void choose_rows(int64_t lower, int64_t upper) {
    if (lower == lower_ && upper == upper_) return;
    lower_ = lower;
    upper_ = upper;
    const float *a = most_[lower & 1].data(), *b = most_[upper & 1].data();
    for (int64_t tile = 0; tile < tiles(); ++tile) {
      float* pair = pair_.data() + tile * pitch_;
      float first = -1.0f, second = -1.0f;
      int64_t best = 0, next = 0;
      for (int64_t k = 0; k < classes_; ++k) {
        const float most = std::max(a[tile * pitch_ + k], b[tile * pitch_ + k]);
        pair[k] = most * (1.0f + kRounding);
        if (!(most > second)) continue;
        const bool leads = most > first;
        second = leads ? first : most;
        next = leads ? best : k;
        first = leads ? most : first;
        best = leads ? k : best;
      }
      largest_[2 * tile] = best;
      largest_[2 * tile + 1] = next;
    }
  }

  // Finds the best class of `count` pixels from column x on. scores_of(k, scores) computes the scores of class k there.
  template <class Scores>
  BestClass best_class(int64_t x, int64_t count, const Scores& scores_of) {
    const int64_t tile = x / kTilePixels;
    FloatVec one[kTileVectors], other[kTileVectors];
    scores_of(largest_[2 * tile], one);
    scores_of(largest_[2 * tile + 1], other);
    FloatVec lowest = broadcast(INFINITY);
    for (int v = 0; v < kTileVectors; ++v) {
      const IntVec exists = lane_numbers() < static_cast<int32_t>(count - v * kLanes);
      const FloatVec larger = one[v] > other[v] ? one[v] : other[v];
      lowest = (exists & (larger < lowest)) ? larger : lowest;
    }
    const float sure = -max_lanes(-lowest);
    BestClass best;
    for (int64_t i = 0, listed = list(tile, sure); i < listed; ++i) {
      scores_of(listed_[i], one);
      best.add(listed_[i], one);
    }
    return best;
  }

 private:
  static constexpr float kRounding = 1e-5f;  // allows for rounding where scores are resized

  int64_t tiles() const { return static_cast<int64_t>(samples_.size()); }

  // Lists in ascending order the classes that have a sample of at least this much. Returns how many.
  int64_t list(int64_t tile, float sure) {
    int64_t listed = 0;
    for (int64_t k = 0; k < classes_; k += kLanes) {
      const FloatVec most = load<FloatVec>(pair_.data() + tile * pitch_ + k);
      for (uint32_t lanes = true_lanes(most >= sure); lanes != 0; lanes &= lanes - 1) {
        const int64_t next = k + __builtin_ctz(lanes);
        if (next < classes_) listed_[listed++] = next;
      }
    }
    return listed;
  }

  int64_t classes_, pitch_;
  const std::vector<ColumnTaps::Samples>& samples_;  // of each tile
  AlignedVector<float> most_[2];                     // (tiles, pitch): the largest samples of even and odd rows
  AlignedVector<float> pair_;                        // (tiles, pitch): of the two chosen rows
  std::vector<int64_t> largest_;                     // (tiles, 2): the classes with the largest two of these
  std::vector<int64_t> listed_;                      // (classes,)
  int64_t lower_ = -1, upper_ = -1;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
