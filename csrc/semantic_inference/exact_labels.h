// Labels of the pixels that integers leave in doubt: whole sums in float32, over all queries in their order.
#pragma once

#include "semantic_inference/tile_plan.h"

#if defined(__AVX2__)
#include <algorithm>
#include <cstdint>
#include <vector>

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// How many samples are behind a tile at most.
inline int64_t most_samples(const LogitTiles& logits) {
  int64_t most = 0;
  for (const ColumnTaps::Samples& range : logits.samples()) most = std::max(most, range.last - range.first + 1);
  return most;
}

class ExactLabels {
 public:
  // At most `sample_pitch` samples of a row, in whole vectors, are behind a tile.
  ExactLabels(const LogitTiles& logits, const FixedClasses& classes, int64_t sample_pitch)
      : logits_(logits),
        classes_(classes),
        sample_pitch_(sample_pitch),
        rows_(classes.active() * sample_pitch),
        masks_(classes.active() * kLanes),
        possible_(classes.classes(), 0),
        among_(classes.classes()) {}

  // Whether the samples behind the tile fit two registers. Then pixels of several rows can share a vector.
  bool scatters(int64_t tile) const {
    const ColumnTaps::Samples range = logits_.samples()[tile];
    return range.last - range.first < 2 * kLanes;
  }

  // Puts class k among those that pixels in doubt can have.
  void allow(int64_t k) { possible_[k] = 1; }

  // Puts pixel x of the tile, in the row that is number `row` of those done together, among the pixels in doubt.
  void doubt(int64_t row, int64_t x) { pixels_.push_back({static_cast<int32_t>(row), static_cast<int32_t>(x)}); }

  // Writes the labels of the pixels in doubt. The tile's first pixel of row number r goes to to + r * width.
  template <int kTaps>
  void settle(int64_t tile, const StoredRows::Sources* rows, int64_t* to) {
    if (pixels_.empty()) return;
    const int64_t count = list_classes();
    for (size_t from = 0; from < pixels_.size(); from += kLanes) {
      const int64_t n = std::min<int64_t>(kLanes, static_cast<int64_t>(pixels_.size() - from));
      scattered_masks<kTaps>(tile, rows, pixels_.data() + from, n);
      const IntVec label = best_of(count);
      for (int64_t i = 0; i < n; ++i) to[pixels_[from + i].row * logits_.width() + pixels_[from + i].x] = label[i];
    }
    pixels_.clear();
  }

  // The labels of vector v of the tile, of the classes that were allowed. `blended`: whether this row of the tile was
  // blended before.
  template <int kTaps>
  __attribute__((noinline)) IntVec vector(int64_t tile, int v, const StoredRows::Sources& sources, bool blended) {
    const int64_t first = logits_.samples()[tile].first;
    if (!blended) blend(logits_.samples()[tile], sources);
    const ColumnTaps& columns = logits_.columns();
    const float* row = rows_.data() - first;
    const auto taps = columns.vector_taps<kTaps, true>(std::min(tile * kTileVectors + v, columns.vectors() - 1));
    for (int64_t q = 0; q < classes_.active(); ++q, row += sample_pitch_) {
      store(masks_.data() + q * kLanes, sigmoid(taps(row)));
    }
    return best_of(list_classes());
  }

 private:
  struct Pixel {
    int32_t row, x;
  };

  // Lists the allowed classes in ascending order, and allows none.
  int64_t list_classes() {
    int64_t count = 0;
    for (int64_t k = 0; k < classes_.classes(); ++k) {
      among_[count] = static_cast<int32_t>(k);
      count += possible_[k];
      possible_[k] = 0;
    }
    return count;
  }

  // The samples behind the tile of all queries, blended to the row as blend_rows does it. The first product is rounded,
  // and later ones are fused with their sum.
  void blend(ColumnTaps::Samples range, const StoredRows::Sources& sources) {
    FloatVec weight[StoredRows::kMostTaps];
    for (int i = 0; i < sources.count; ++i) weight[i] = broadcast(sources.weight[i]);
    for (int64_t q = 0; q < classes_.active(); ++q) {
      const int64_t from = q * sources.pitch;
      float* to = rows_.data() + q * sample_pitch_ - range.first;
      for (int64_t x = range.first; x <= range.last; x += kLanes) {
        FloatVec sum = weight[0] * load<FloatVec>(sources.rows[0] + from + x);
        for (int i = 1; i < sources.count; ++i) {
          sum = multiply_add(weight[i], load<FloatVec>(sources.rows[i] + from + x), sum);
        }
        store(to + x, sum);
      }
    }
  }

  // Lane i of the result is lane place[i] of the lanes of low, followed by those of high.
  static inline __attribute__((always_inline)) FloatVec pick(FloatVec low, FloatVec high, IntVec place) {
#if defined(__AVX512F__)
    return (FloatVec)_mm512_permutex2var_ps((__m512)low, (__m512i)place, (__m512)high);
#else
    return place < kLanes ? permute(low, place) : permute(high, place);  // the instruction drops the upper bits
#endif
  }

  // The masks of all queries at n pixels of the tile, by the same products and sums as blend() and ColumnTaps.
  template <int kTaps>
  __attribute__((noinline)) void scattered_masks(int64_t tile, const StoredRows::Sources* rows, const Pixel* pixels,
                                                 int64_t n) {
    const ColumnTaps& columns = logits_.columns();
    const int64_t first = logits_.samples()[tile].first;
    alignas(64) int32_t places[kTaps][kLanes];
    alignas(64) float weights[kTaps][kLanes], row_weights[StoredRows::kMostTaps][kLanes];
    const int count = rows[0].count;
    for (int64_t i = 0; i < kLanes; ++i) {
      const Pixel& pixel = pixels[std::min(i, n - 1)];
      const int64_t x = tile * kTilePixels + pixel.x;
      for (int tap = 0; tap < kTaps; ++tap) {
        const int64_t slot = tap * columns.vectors() + x / kLanes;
        places[tap][i] = static_cast<int32_t>(columns.base(slot) + columns.offset(slot)[x % kLanes] - first);
        weights[tap][i] = columns.weight(slot)[x % kLanes];
      }
      for (int row = 0; row < count; ++row) row_weights[row][i] = rows[pixel.row].weight[row];
    }
    IntVec place[kTaps];
    FloatVec weight[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) {
      place[tap] = load<IntVec>(places[tap]);
      weight[tap] = load<FloatVec>(weights[tap]);
    }
    for (int64_t q = 0; q < classes_.active(); ++q) {
      const float* from = q * rows[0].pitch + first + rows[0].rows[0];
      FloatVec low = load<FloatVec>(from), high = load<FloatVec>(from + kLanes),
               row_weight = load<FloatVec>(row_weights[0]);
      FloatVec blended[kTaps];
      for (int tap = 0; tap < kTaps; ++tap) blended[tap] = row_weight * pick(low, high, place[tap]);
      for (int row = 1; row < count; ++row) {
        from = q * rows[0].pitch + first + rows[0].rows[row];
        low = load<FloatVec>(from), high = load<FloatVec>(from + kLanes), row_weight = load<FloatVec>(row_weights[row]);
        for (int tap = 0; tap < kTaps; ++tap) {
          blended[tap] = multiply_add(row_weight, pick(low, high, place[tap]), blended[tap]);
        }
      }
      FloatVec logit = weight[0] * blended[0];
      for (int tap = 1; tap < kTaps; ++tap) logit = multiply_add(weight[tap], blended[tap], logit);
      store(masks_.data() + q * kLanes, sigmoid(logit));
    }
  }

  // The best of the first `count` listed classes, by masks_.
  IntVec best_of(int64_t count) const { return count > 4 ? best_by_blocks<8>(count) : best_by_blocks<4>(count); }
  template <int kBlock>
  IntVec best_by_blocks(int64_t count) const {
    FloatVec best = broadcast(-1.0f);
    IntVec label{};
    for (int64_t from = 0; from < count; from += kBlock) {
      const float* factors[kBlock];
      for (int i = 0; i < kBlock; ++i) factors[i] = classes_.column(among_[std::min(from + i, count - 1)]);
      FloatVec sums[kBlock] = {};
      for (int64_t q = 0; q < classes_.active(); ++q) {
        const FloatVec mask = load<FloatVec>(masks_.data() + q * kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < kBlock; ++i) sums[i] += broadcast(factors[i][q]) * mask;
      }
      for (int i = 0; i < kBlock && from + i < count; ++i) {
        const IntVec better = sums[i] > best;
        best = better ? sums[i] : best;
        label = better ? IntVec{} + among_[from + i] : label;
      }
    }
    return label;
  }

  const LogitTiles& logits_;
  const FixedClasses& classes_;
  int64_t sample_pitch_;
  AlignedVector<float> rows_;      // (active, sample_pitch)
  AlignedVector<float> masks_;     // (active, kLanes)
  std::vector<uint8_t> possible_;  // (classes,)
  std::vector<int32_t> among_;     // (classes,)
  std::vector<Pixel> pixels_;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
