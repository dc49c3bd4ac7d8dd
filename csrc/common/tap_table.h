// The samples that make each output of an axis, for one bilinear resize, or two with a crop between them.
//
// Both resizes are linear. They compose into one map with at most four taps per output. A mirrored result is the same
// table read backwards.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/dtype.h"
#include "common/mask_resize.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// out[x] = sum over taps of weight * in[index]. Both are stored as (taps, out).
struct TapTable {
  int taps;  // 2 or 4
  std::vector<int64_t> index;
  std::vector<float> weight;
};

inline TapTable tap_table(const AxisResize& axis) {
  TapTable table;
  table.taps = taps_of(axis);
  table.index.assign(table.taps * axis.out, 0);
  table.weight.assign(table.taps * axis.out, 0.0f);
  for (int64_t x = 0; x < axis.out; ++x) {
    const AxisTaps taps = axis_taps(axis, x);
    for (int tap = 0; tap < table.taps; ++tap) {
      table.index[tap * axis.out + x] = taps.index[tap];
      table.weight[tap * axis.out + x] = taps.weight[tap];
    }
  }
  return table;
}

// A tap table of columns, in vectors of outputs. A vector's samples are one load and one permutation where they lie
// close together, as always when enlarging. Elsewhere they are a gather.
class ColumnTaps {
 public:
  explicit ColumnTaps(const AxisResize& axis) : out_(axis.out), vectors_((axis.out + kLanes - 1) / kLanes) {
    const TapTable table = tap_table(axis);
    taps_ = table.taps;
    const int64_t slots = taps_ * vectors_;
    base_.assign(slots, 0);
    offset_.assign(slots, IntVec{});
    weight_.assign(slots, FloatVec{});
    for (int tap = 0; tap < taps_; ++tap) {
      for (int64_t v = 0; v < vectors_; ++v) {
        int64_t lowest = axis.in;
        for (int lane = 0; lane < kLanes; ++lane) lowest = std::min(lowest, index_of(table, tap, v * kLanes + lane));
        const int64_t slot = tap * vectors_ + v;
        base_[slot] = lowest;
        for (int lane = 0; lane < kLanes; ++lane) {
          const int64_t x = v * kLanes + lane;
          const int64_t offset = index_of(table, tap, x) - lowest;
          if (offset >= kLanes) close_ = false;
          offset_[slot][lane] = static_cast<int32_t>(offset);
          weight_[slot][lane] = x < out_ ? table.weight[tap * out_ + x] : 0.0f;
        }
      }
    }
  }

  int taps() const { return taps_; }
  bool close() const { return close_; }

  // The samples [first, last] that vectors [begin, end) are made of.
  struct Samples {
    int64_t first, last;
  };
  Samples samples(int64_t begin, int64_t end) const {
    Samples range = {INT64_MAX, 0};
    for (int tap = 0; tap < taps_; ++tap) {
      for (int64_t v = begin; v < std::min(end, vectors_); ++v) {
        const int64_t slot = tap * vectors_ + v;
        range.first = std::min(range.first, base_[slot]);
        for (int lane = 0; lane < kLanes; ++lane) {
          range.last = std::max(range.last, base_[slot] + offset_[slot][lane]);
        }
      }
    }
    return range;
  }
  int64_t vectors() const { return vectors_; }

  // What vector v takes of a tap, in slot tap * vectors() + v: lanes of the samples from base(slot) on.
  int64_t base(int64_t slot) const { return base_[slot]; }
  const IntVec& offset(int64_t slot) const { return offset_[slot]; }
  const FloatVec& weight(int64_t slot) const { return weight_[slot]; }

  // What makes a vector of outputs of any row. It is a copy, so that a loop over rows reloads no pointer to the tables.
  template <int kTaps, bool kClose>
  struct VectorTaps {
    int64_t base[kTaps];
    IntVec offset[kTaps];
    FloatVec weight[kTaps];

    // The outputs of a row, which must be readable kLanes elements beyond its end.
    inline __attribute__((always_inline)) FloatVec operator()(const float* row) const {
      FloatVec sum{};
      for (int tap = 0; tap < kTaps; ++tap) {
        const float* from = row + base[tap];
        FloatVec samples;
        if constexpr (kClose) {
          samples = permute(load<FloatVec>(from), offset[tap]);
        } else {
          for (int lane = 0; lane < kLanes; ++lane) samples[lane] = from[offset[tap][lane]];
        }
        sum = tap == 0 ? weight[tap] * samples : multiply_add(weight[tap], samples, sum);
      }
      return sum;
    }
  };

  // Of outputs [v * kLanes, (v + 1) * kLanes).
  template <int kTaps, bool kClose>
  inline __attribute__((always_inline)) VectorTaps<kTaps, kClose> vector_taps(int64_t v) const {
    VectorTaps<kTaps, kClose> taps;
    for (int tap = 0; tap < kTaps; ++tap) {
      const int64_t slot = tap * vectors_ + v;
      taps.base[tap] = base_[slot];
      taps.offset[tap] = offset_[slot];
      taps.weight[tap] = weight_[slot];
    }
    return taps;
  }

 private:
  int64_t index_of(const TapTable& table, int tap, int64_t x) const {
    return table.index[tap * out_ + std::min(x, out_ - 1)];
  }

  int64_t out_, vectors_;
  int taps_ = 2;
  bool close_ = true;
  std::vector<int64_t> base_;
  AlignedVector<IntVec> offset_;
  AlignedVector<FloatVec> weight_;
};

// Calls body.template operator()<kTaps, kClose>() with what the table needs.
template <class Body>
inline void for_column_taps(const ColumnTaps& columns, Body&& body) {
  if (columns.taps() == 2) {
    columns.close() ? body.template operator()<2, true>() : body.template operator()<2, false>();
  } else {
    columns.close() ? body.template operator()<4, true>() : body.template operator()<4, false>();
  }
}

// Blends rows of a plane, `width` wide, to output row y by a tap table.
template <class T>
inline void blend_rows(const TapTable& rows, int64_t out_rows, int64_t y, const T* plane, int64_t row_stride,
                       int64_t width, float* __restrict to) {
  for (int tap = 0; tap < rows.taps; ++tap) {
    const float weight = rows.weight[tap * out_rows + y];
    if (weight == 0.0f && tap > 0) continue;
    const T* from = plane + rows.index[tap * out_rows + y] * row_stride;
    if (tap == 0) {
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) to[x] = weight * to_float(from[x]);
    } else {
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) to[x] += weight * to_float(from[x]);
    }
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
