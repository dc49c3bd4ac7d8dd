// Stored rows of mask logits in float32, with the extremes of their samples behind each tile of pixels.
//
// They are read once, and serve all output rows that are made of them.
#pragma once

#include "common/vec.h"

#if defined(__AVX2__)
#include <algorithm>
#include <cstdint>

#include "common/aligned.h"
#include "common/dtype.h"
#include "common/mask_tiles.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

class StoredRows {
 public:
  static constexpr int kMostTaps = 4;

  // A stored row of every query in float32, and the extremes of its samples behind each tile.
  struct HeldRow {
    int64_t number = -1;
    bool finite = true;
    AlignedVector<float> rows;         // (active, row_pitch)
    AlignedVector<float> most, least;  // (tiles, pitch)
  };

  // `pitch` numbers of queries for a tile, at least `active`.
  StoredRows(const LogitTiles& logits, int64_t active, int64_t pitch)
      : logits_(logits),
        active_(active),
        tiles_(static_cast<int64_t>(logits.samples().size())),
        pitch_(pitch),
        row_pitch_(row_pitch(logits.source().width)) {}

  // Holds the stored rows behind output row y. Returns the next row that is made of others, at most `end`.
  int64_t choose(int64_t y, int64_t end) {
    int64_t sources[kMostTaps];
    const int count = sources_of(y, sources);
    int64_t next = y + 1;
    for (int64_t other[kMostTaps]; next < end; ++next) {
      if (sources_of(next, other) != count || !std::equal(sources, sources + count, other)) break;
    }
    hold(sources, count);
    return next;
  }

  // The rows that were chosen.
  int count() const { return count_; }
  const HeldRow& row(int i) const { return held_[chosen_[i]]; }

  // The stored rows behind the chosen output rows, with the weights that they have in row y.
  struct Sources {
    int count;
    const float* rows[kMostTaps];  // of the first query; the next one is `pitch` further
    float weight[kMostTaps];
    int64_t pitch;
  };
  Sources sources(int64_t y) const {
    const TapTable& rows = logits_.rows();
    Sources to = {};
    to.pitch = row_pitch_;
    for (int tap = 0; tap < rows.taps; ++tap) {
      const float weight = rows.weight[tap * logits_.height() + y];
      if (tap > 0 && weight == 0.0f) continue;
      to.rows[to.count] = held_[chosen_[to.count]].rows.data();
      to.weight[to.count++] = weight;
    }
    return to;
  }

 private:
  int sources_of(int64_t y, int64_t (&sources)[kMostTaps]) const {
    const TapTable& rows = logits_.rows();
    int count = 0;
    for (int tap = 0; tap < rows.taps; ++tap) {
      if (tap == 0 || rows.weight[tap * logits_.height() + y] != 0.0f) {
        sources[count++] = rows.index[tap * logits_.height() + y];
      }
    }
    return count;
  }

  // Holds these rows. Those that are held already stay.
  void hold(const int64_t (&sources)[kMostTaps], int count) {
    bool used[kMostTaps] = {};
    const auto find = [&](int i) {
      chosen_[i] = -1;
      for (int slot = 0; slot < kMostTaps && chosen_[i] < 0; ++slot) {
        if (held_[slot].number == sources[i]) used[chosen_[i] = slot] = true;
      }
      return chosen_[i] >= 0;
    };
    for (int i = 0; i < count; ++i) find(i);
    for (int i = 0; i < count; ++i) {
      if (find(i)) continue;  // also where two taps are the same row
      const int free = static_cast<int>(std::find(used, used + kMostTaps, false) - used);
      read_row(sources[i], held_[free]);
      find(i);
    }
    count_ = count;
  }

  void read_row(int64_t y, HeldRow& to) {
    if (to.rows.empty()) {
      to.rows.assign(active_ * row_pitch_ + kLanes, -1e30f);  // two vectors are read from any sample
      to.most.assign(tiles_ * pitch_, -1e30f);
      to.least.assign(tiles_ * pitch_, -1e30f);
    }
    const MaskSource& source = logits_.source();
    to.number = y;
    to.finite = true;
    for_float_type(source.dtype, [&](auto type) {
      using T = decltype(type);
      const T* plane = static_cast<const T*>(source.logits) + y * source.row_stride;
      for (int64_t q = 0; q < active_; ++q) {
        const T* from = plane + source.queries[q] * source.query_stride;
        // Rows of queries lie far apart, and no prefetcher foresees them.
        const T* next = plane + source.queries[std::min(q + 1, active_ - 1)] * source.query_stride;
        for (int64_t x = 0; x < source.width; x += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(next + x);
        float* row = to.rows.data() + q * row_pitch_;
        int32_t broken = 0;
#pragma omp simd reduction(| : broken)
        for (int64_t x = 0; x < source.width; ++x) {
          const float value = to_float(from[x]);
          row[x] = value;
          broken |= value - value != 0.0f;
        }
        to.finite = to.finite && broken == 0;
        note_extremes(row, q, to);
      }
    });
  }

  void note_extremes(const float* row, int64_t q, HeldRow& to) const {
    for (int64_t tile = 0; tile < tiles_; ++tile) {
      const ColumnTaps::Samples range = logits_.samples()[tile];
      const int64_t count = range.last - range.first + 1;
      FloatVec most = load<FloatVec>(row + range.first);
      // Samples beyond the range are left out, as what lies behind a row is no sample.
      FloatVec least = count < kLanes ? (lane_numbers() < static_cast<int32_t>(count) ? most : broadcast(1e30f)) : most;
      for (int64_t i = range.first + kLanes; i <= range.last; i += kLanes) {
        const FloatVec next = load<FloatVec>(row + std::min(i, range.last - kLanes + 1));
        most = next > most ? next : most;
        least = next < least ? next : least;
      }
      to.most[tile * pitch_ + q] = max_lanes(most);
      to.least[tile * pitch_ + q] = -max_lanes(-least);
    }
  }

  const LogitTiles& logits_;
  int64_t active_, tiles_, pitch_, row_pitch_;
  HeldRow held_[kMostTaps];
  int chosen_[kMostTaps] = {}, count_ = 0;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
