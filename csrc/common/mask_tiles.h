// Mask logits of many queries, resized for a few vectors of pixels at a time: what the CPU kernels of inference share.
// Nothing of the size queries x pixels is stored.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/aligned.h"
#include "common/dtype.h"
#include "common/mask_source.h"
#include "common/math.h"
#include "common/tap_table.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

#if defined(__AVX512F__)
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileVectors = 3;
#endif
inline constexpr int64_t kTilePixels = kTileVectors * kLanes;

// How many elements a row of `width` needs, since vectors may read beyond its end.
inline int64_t row_pitch(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes + kLanes; }

// Resizes one row of several planes to `width` columns. Plane k begins at rows + k * pitch. Calls body(x, count,
// values) per tile, where values(k, v) is vector v of plane k.
template <class Body>
inline __attribute__((always_inline)) void resize_tiles(const ColumnTaps& columns, const float* rows, int64_t pitch,
                                                        int64_t width, Body& body) {
  for_column_taps(columns, [&]<int kTaps, bool kClose>() {
    const int64_t last = columns.vectors() - 1;
    for (int64_t x = 0; x < width; x += kTilePixels) {
      ColumnTaps::VectorTaps<kTaps, kClose> taps[kTileVectors];
      for (int v = 0; v < kTileVectors; ++v) {
        taps[v] = columns.vector_taps<kTaps, kClose>(std::min(x / kLanes + v, last));
      }
      const auto values = [&](int64_t plane, int v)
                              __attribute__((always_inline)) { return taps[v](rows + plane * pitch); };
      body(x, std::min(kTilePixels, width - x), values);
    }
  });
}

// Writes the sigmoids of n planes of a tile to (n, kTilePixels). Plane j of them is plane[j] of `values`. The blend of
// the next plane stands before the sigmoid of this one, so that neither waits for the other: a fifth faster.
template <class Values>
inline __attribute__((always_inline)) void store_sigmoids(const Values& values, const int32_t* plane, int64_t n,
                                                          float* to) {
  if (n == 0) return;
  FloatVec logits[kTileVectors];
  for (int v = 0; v < kTileVectors; ++v) logits[v] = values(plane[0], v);
  for (int64_t j = 0; j < n; ++j, to += kTilePixels) {
    const int32_t next_plane = plane[j + 1 < n ? j + 1 : j];
    FloatVec next[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) next[v] = values(next_plane, v);
    for (int v = 0; v < kTileVectors; ++v) {
      store(to + v * kLanes, sigmoid(logits[v]));
      logits[v] = next[v];
    }
  }
}

// The samples that each tile of a row is made of.
inline std::vector<ColumnTaps::Samples> tile_samples(const ColumnTaps& columns) {
  std::vector<ColumnTaps::Samples> samples;
  for (int64_t v = 0; v < columns.vectors(); v += kTileVectors) samples.push_back(columns.samples(v, v + kTileVectors));
  return samples;
}

// The largest of a range of samples, and of up to kLanes - 1 behind it.
inline float largest_sample(const float* row, ColumnTaps::Samples range) {
  FloatVec largest = load<FloatVec>(row + range.first);
  for (int64_t i = range.first + kLanes; i <= range.last; i += kLanes) {
    const FloatVec next = load<FloatVec>(row + i);
    largest = next > largest ? next : largest;
  }
  return max_lanes(largest);
}

// Logits of a grid that is one linear map of the stored logits, a row and a tile of columns at a time.
class LogitTiles {
 public:
  LogitTiles(const MaskSource& source, const PlaneResize& resize)
      : source_(source),
        rows_(tap_table(resize.rows)),
        height_(resize.rows.out),
        width_(resize.columns.out),
        columns_(resize.columns),
        pitch_(row_pitch(source.width)),
        blended_(source.count * pitch_, kBelowAll),
        samples_(tile_samples(columns_)) {}

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

  // Prepares row y of query number `query` of the source.
  void set_row(int64_t query, int64_t y) {
    for_float_type(source_.dtype, [&](auto type) {
      const auto* logits = static_cast<const decltype(type)*>(source_.logits);
      blend_rows(rows_, height_, y, logits + source_.queries[query] * source_.query_stride, source_.row_stride,
                 source_.width, blended_.data() + query * pitch_);
    });
  }
  void set_row(int64_t y) {
    for (int64_t query = 0; query < source_.count; ++query) set_row(query, y);
  }

  // What the rows and columns of the grid are made of, and the samples behind each tile of a row.
  const MaskSource& source() const { return source_; }
  const TapTable& rows() const { return rows_; }
  const ColumnTaps& columns() const { return columns_; }
  const std::vector<ColumnTaps::Samples>& samples() const { return samples_; }

  // The row that was prepared of a query, before its columns are resized.
  const float* blended(int64_t query) const { return blended_.data() + query * pitch_; }

  // A bound on the logits of a query in the tile at column x. Resizing takes convex combinations, so none is larger.
  float upper_bound(int64_t query, int64_t x) const {
    return largest_sample(blended_.data() + query * pitch_, samples_[x / kTilePixels]);
  }

  // Calls body(x, count, logits) for the tiles of the row, where logits(query, v) is vector v of the tile.
  template <class Body>
  void for_tiles(Body&& body) const {
    resize_tiles(columns_, blended_.data(), pitch_, width_, body);
  }

 private:
  const MaskSource& source_;
  TapTable rows_;
  int64_t height_, width_;
  ColumnTaps columns_;
  static constexpr float kBelowAll = -1e30f;  // behind a row's end, with weight 0; it must not raise a bound

  int64_t pitch_;
  AlignedVector<float> blended_;              // (count, pitch): a row of every query, resized vertically
  std::vector<ColumnTaps::Samples> samples_;  // of each tile
};

// The logits at the output, both resizes composed.
inline LogitTiles output_logits(const MaskSource& s) { return LogitTiles(s, to_output(s)); }

// The logits at the network input. Without a network input, the logits as they are stored.
inline LogitTiles input_logits(const MaskSource& s) { return LogitTiles(s, to_input(s)); }

// Planes of values at the network input, made row by row, resized to the output.
class ResizedPlanes {
 public:
  // `made_width` columns of a row are made. The crop keeps the first of them.
  ResizedPlanes(const MaskSource& s, int64_t planes, int64_t made_width)
      : height_(from_input(s).rows.in),
        out_height_(s.out_height),
        out_width_(s.out_width),
        columns_(from_input(s).columns),
        planes_(planes),
        pitch_(row_pitch(made_width)),
        held_(2 * planes * pitch_, 0.0f),
        blended_(planes * pitch_, 0.0f),
        samples_(tile_samples(columns_)) {}

  // Prepares output row y. make(row, to, pitch) writes a row of all planes, plane k at to + k * pitch.
  template <class Make>
  void set_row(int64_t y, Make&& make) {
    hold_rows(y, make);
    blend(0, planes_ * pitch_);
  }

  // As set_row, but that the caller blends what it reads: blend_tile before values of a plane in a tile.
  template <class Make>
  void hold_rows(int64_t y, Make&& make) {
    tap_ = resize_tap(y, height_, out_height_);
    lower_ = held_row(tap_.lower, make);
    upper_ = tap_.weight == 0.0f ? lower_ : held_row(tap_.upper, make);
    if (tap_.weight == 0.0f) tap_.upper = tap_.lower;
  }
  void blend_tile(int64_t plane, int64_t x) {
    const ColumnTaps::Samples range = samples_[x / kTilePixels];
    blend(plane * pitch_ + range.first, plane * pitch_ + range.last + 1);
  }

  // The two rows that are held for the output row.
  const ResizeTap& tap() const { return tap_; }
  const std::vector<ColumnTaps::Samples>& samples() const { return samples_; }

  // As LogitTiles::upper_bound, for planes without negative values.
  float upper_bound(int64_t plane, int64_t x) const {
    return largest_sample(blended_.data() + plane * pitch_, samples_[x / kTilePixels]);
  }

  // As LogitTiles::for_tiles.
  template <class Body>
  void for_tiles(Body&& body) const {
    resize_tiles(columns_, blended_.data(), pitch_, out_width_, body);
  }

 private:
  // Never inlined, as it is called for the lower and for the upper row. In two copies of `make` the compiler may fuse
  // products and sums in two ways. A row would then depend on which of the two a thread meets first.
  template <class Make>
  __attribute__((noinline)) const float* held_row(int64_t y, Make& make) {
    const int slot = static_cast<int>(y & 1);
    float* row = held_.data() + slot * planes_ * pitch_;
    if (rows_[slot] != y) make(y, row, pitch_);
    rows_[slot] = y;
    return row;
  }

  // Never inlined, for the same reason.
  __attribute__((noinline)) void blend(int64_t begin, int64_t end) {
    const float upper_weight = tap_.weight, lower_weight = 1.0f - tap_.weight;
    const float *lower = lower_, *upper = upper_;
    float* blended = blended_.data();
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) blended[i] = lower_weight * lower[i] + upper_weight * upper[i];
  }

  int64_t height_, out_height_, out_width_;
  ColumnTaps columns_;
  int64_t planes_, pitch_;
  AlignedVector<float> held_;  // (2, planes, pitch): rows of even and of odd number
  AlignedVector<float> blended_;
  std::vector<ColumnTaps::Samples> samples_;  // of each tile
  int64_t rows_[2] = {-1, -1};
  ResizeTap tap_ = {};
  const float *lower_ = nullptr, *upper_ = nullptr;  // (planes, pitch): the rows that tap_ blends
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
