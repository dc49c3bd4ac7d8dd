// Rows of many planes that output rows are blended of, with the largest value that each plane can have in each tile.
//
// Most planes are small in most tiles. Bounds of all planes cost a few instructions, so that only the planes that
// matter in a tile are blended and resized there.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/mask_tiles.h"
#include "common/math.h"
#include "common/tap_table.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// Resizing columns rounds, and so does the sigmoid. A bound on samples bounds what is made of them with this share
// more.
inline constexpr float kBlendRounding = 1e-5f;

inline __attribute__((always_inline)) FloatVec with_rounding(FloatVec most) {
  return most - kBlendRounding * negative_magnitude(most);
}

// Lane i of the result is the largest lane of vector i.
inline __attribute__((always_inline)) FloatVec largest_of_each(FloatVec (&vectors)[kLanes]) {
  const IntVec even = 2 * lane_numbers(), odd = even + 1;
  for (int left = kLanes / 2; left > 0; left /= 2) {
    for (int i = 0; i < left; ++i) {
      const FloatVec one = shuffle(vectors[2 * i], vectors[2 * i + 1], even);
      const FloatVec other = shuffle(vectors[2 * i], vectors[2 * i + 1], odd);
      vectors[i] = one > other ? one : other;
    }
  }
  return vectors[0];
}

class HeldRows {
 public:
  // Planes whose rows are `made_width` wide, of which the resize keeps the first. With `last_first` a row is a sum that
  // begins with its last tap: what is rounded depends on the order.
  HeldRows(const PlaneResize& resize, int64_t planes, int64_t made_width, bool last_first)
      : rows_(tap_table(resize.rows)),
        height_(resize.rows.out),
        width_(resize.columns.out),
        columns_(resize.columns),
        planes_(planes),
        padded_(planes == 1 ? 1 : (planes + kLanes - 1) / kLanes * kLanes),
        pitch_(row_pitch(made_width)),
        last_first_(last_first),
        samples_(tile_samples(columns_)),
        bounds_((static_cast<int64_t>(samples_.size()) * padded_ + kLanes - 1) / kLanes * kLanes),
        held_(kSlots * planes * pitch_, kBelowAll),
        most_(kSlots * bounds_, kBelowAll),
        blended_(planes * pitch_, kBelowAll),
        bound_(bounds_, kBelowAll) {
    forget();
  }

  int64_t tiles() const { return static_cast<int64_t>(samples_.size()); }

  // Drops the rows that are held, before they are of other planes.
  void forget() { row_.fill(-1); }

  // Prepares output row y. make(row, to, pitch) writes a row of all planes, plane k at to + k * pitch.
  template <class Make>
  void set_row(int64_t y, Make&& make) {
    taps_ = 0;
    for (int i = 0; i < rows_.taps; ++i) {
      const int tap = last_first_ ? rows_.taps - 1 - i : i;
      const float weight = rows_.weight[tap * height_ + y];
      if (weight == 0.0f && tap > 0) continue;
      slot_[taps_] = slot_of(rows_.index[tap * height_ + y], y, make);
      weight_[taps_++] = weight;
    }
    for (int64_t i = 0; i < bounds_; i += kLanes) {
      store(bound_.data() + i, blend([&](int slot) { return most_.data() + slot * bounds_ + i; }));
    }
  }

  // Bounds on the values of the planes in a tile, (planes,) and as many as fill a vector. Blending takes convex
  // combinations, so no value is larger but for the rounding of the columns.
  const float* bounds(int64_t tile) const { return bound_.data() + tile * padded_; }

  // Makes what `for_tiles` reads of a plane in a tile.
  void blend_tile(int64_t plane, int64_t tile) {
    float* to = blended_.data() + plane * pitch_;
    for (int64_t i = samples_[tile].first; i <= samples_[tile].last; i += kLanes) {
      store(to + i, blend([&](int slot) { return held_.data() + (slot * planes_ + plane) * pitch_ + i; }));
    }
  }

  // Calls body(x, count, values) for the tiles of the row, where values(plane, v) is vector v of a tile.
  template <class Body>
  void for_tiles(Body&& body) const {
    resize_tiles(columns_, blended_.data(), pitch_, width_, body);
  }

  // As for_tiles, of one plane, but only for the tiles where it may exceed a threshold. They are blended.
  template <class Body>
  void for_tiles_above(float threshold, Body&& body) {
    for_column_taps(columns_, [&]<int kTaps, bool kClose>() {
      for (int64_t first = 0; first < tiles(); first += kLanes) {
        const FloatVec most = with_rounding(load<FloatVec>(bound_.data() + first));
        // Not "above": a value that is not a number is no bound.
        uint32_t above = true_lanes(~(most <= threshold) & (lane_numbers() < static_cast<int32_t>(tiles() - first)));
        for (; above != 0; above &= above - 1) {
          const int64_t tile = first + std::countr_zero(above), x = tile * kTilePixels;
          blend_tile(0, tile);
          const auto values = [&](int v) __attribute__((always_inline)) {
            const auto taps = columns_.vector_taps<kTaps, kClose>(std::min(x / kLanes + v, columns_.vectors() - 1));
            return taps(blended_.data());
          };
          body(x, std::min(kTilePixels, width_ - x), values);
        }
      }
    });
  }

 private:
  static constexpr int kSlots = 4;  // an output row has up to four taps
  static constexpr float kBelowAll = -1e30f;

  template <class From>
  inline __attribute__((always_inline)) FloatVec blend(const From& from) const {
    FloatVec sum = weight_[0] * load<FloatVec>(from(slot_[0]));
    for (int tap = 1; tap < taps_; ++tap) {
      sum = multiply_add(broadcast(weight_[tap]), load<FloatVec>(from(slot_[tap])), sum);
    }
    return sum;
  }

  // The slot that holds a row. Never inlined: in several copies of `make` the compiler may round in several ways.
  template <class Make>
  __attribute__((noinline)) int slot_of(int64_t row, int64_t y, Make& make) {
    int slot = static_cast<int>(std::find(row_.begin(), row_.end(), row) - row_.begin());
    if (slot < kSlots) return slot;
    slot = 0;
    while (is_tap(row_[slot], y)) ++slot;
    float* to = held_.data() + slot * planes_ * pitch_;
    make(row, to, pitch_);
    for (int64_t plane = 0; plane < planes_; ++plane) {
      bound_tiles(to + plane * pitch_, most_.data() + slot * bounds_ + plane);
    }
    row_[slot] = row;
    return slot;
  }

  bool is_tap(int64_t row, int64_t y) const {
    bool found = false;
    for (int tap = 0; tap < rows_.taps; ++tap) found = found || rows_.index[tap * height_ + y] == row;
    return found;
  }

  // Writes the largest sample under each tile of a row, tile t at to[t * padded_].
  void bound_tiles(const float* row, float* to) const {
    for (int64_t tile = 0; tile < tiles(); tile += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, tiles() - tile);
      FloatVec largest[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const ColumnTaps::Samples range = samples_[tile + std::min(i, count - 1)];
        // The last load ends with the range, if it is as long as a vector.
        const int64_t last = std::max(range.first, range.last + 1 - kLanes);
        FloatVec most = load<FloatVec>(row + last);
        for (int64_t x = range.first; x < last; x += kLanes) {
          const FloatVec next = load<FloatVec>(row + x);
          most = next > most ? next : most;
        }
        largest[i] = most;
      }
      const FloatVec most = largest_of_each(largest);
      for (int64_t i = 0; i < count; ++i) to[(tile + i) * padded_] = most[i];
    }
  }

  TapTable rows_;
  int64_t height_, width_;
  ColumnTaps columns_;
  int64_t planes_, padded_, pitch_;
  bool last_first_;
  std::vector<ColumnTaps::Samples> samples_;  // of each tile
  int64_t bounds_;                            // how many bounds a row has: (tiles, padded), rounded up
  AlignedVector<float> held_;                 // (slots, planes, pitch)
  AlignedVector<float> most_;                 // (slots, bounds)
  AlignedVector<float> blended_;              // (planes, pitch), where blend_tile was called
  AlignedVector<float> bound_;                // (bounds,) of the output row
  std::array<int64_t, kSlots> row_;           // which row a slot holds, -1: none
  int taps_ = 0;
  int slot_[kSlots] = {};
  float weight_[kSlots] = {};
};

// Writes a row of stored logits of the queries of a source, plane k at to + k * pitch, as float.
inline void copy_row(const MaskSource& source, int64_t query, int64_t row, float* __restrict to) {
  for_float_type(source.dtype, [&](auto type) {
    const auto* from = static_cast<const decltype(type)*>(source.logits) + source.queries[query] * source.query_stride +
                       row * source.row_stride;
#pragma omp simd
    for (int64_t x = 0; x < source.width; ++x) to[x] = to_float(from[x]);
  });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
