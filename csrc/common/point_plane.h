// A map in the form that points are sampled from: as float, with a border of zeros, the four taps of a point together.
// Host only, torch-free.
//
// Entry (y, x) holds pixels (y, x) and (y + 1, x) side by side. Here y goes from -1 to h - 1, and x from -1 to w. The
// taps of a point are then four neighbouring floats, read at once. What lies outside needs no test, since it is 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/aligned.h"
#include "common/convert.h"
#include "common/point_lanes.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// The entries of points, and the weights of their pixels in the order of the entries: top left, bottom left, top right,
// bottom right.
struct EntryLanes {
  int32_t entry[kLanes];
  FloatVec weight[4];
};

class PointPlane {
 public:
  PointPlane(int64_t height, int64_t width)
      : height_(height), width_(width), columns_(width + 2), rows_(2 * width), values_(size(), 0.0f) {}

  // How many elements a plane has. Behind the last entry there is one for points outside.
  int64_t size() const { return 2 * (columns_ * (height_ + 1) + 2); }

  // Reads a map whose last dimension is contiguous; strides are in elements.
  void fill(const void* map, DType dtype, int64_t begin, int64_t row_stride) {
    float *upper = rows_.data(), *lower = upper + width_;
    std::fill_n(upper, width_, 0.0f);
    for (int64_t y = -1; y < height_; ++y) {
      if (y + 1 < height_) {
        load_floats(map, dtype, begin + (y + 1) * row_stride, width_, lower);
      } else {
        std::fill_n(lower, width_, 0.0f);
      }
      interleave(upper, lower, width_, values_.data() + 2 * (columns_ * (y + 1) + 1));
      std::swap(upper, lower);
    }
  }

  __attribute__((always_inline)) void find(PointLanes points, EntryLanes& entries) const {
    const CellLanes cell = cells_of(points, height_, width_);
    FloatVec weight[4];
    cell_weights(cell, weight);
    entries.weight[0] = weight[0];
    entries.weight[1] = weight[2];
    entries.weight[2] = weight[1];
    entries.weight[3] = weight[3];
    const IntVec entry = (cell.row + 1) * static_cast<int32_t>(columns_) + (cell.column + 1);
    const IntVec found = cell.inside ? entry : IntVec{} + static_cast<int32_t>(columns_ * (height_ + 1));
    store_lanes(entries.entry, found);
  }

  __attribute__((always_inline)) FloatVec sample(const EntryLanes& entries) const {
    FloatVec value[4];
    const float* values_of_entries = values_.data();
    load_fours([&](int lane) { return load<FloatQuad>(values_of_entries + 2 * int64_t{entries.entry[lane]}); }, value);
    const FloatVec weights[4] = {entries.weight[0], entries.weight[2], entries.weight[1], entries.weight[3]};
    const FloatVec values[4] = {value[0], value[2], value[1], value[3]};
    return blend_taps(weights, values);
  }

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  int64_t columns() const { return columns_; }

 private:
  static void interleave(const float* __restrict first, const float* __restrict second, int64_t count,
                         float* __restrict to) {
    for (int64_t i = 0; i < count; ++i) {
      to[2 * i] = first[i];
      to[2 * i + 1] = second[i];
    }
  }

  int64_t height_, width_, columns_;
  AlignedVector<float> rows_, values_;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
