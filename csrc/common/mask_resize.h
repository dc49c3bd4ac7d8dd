// Resizes as plain data, and the taps of each output sample: one source for host and device.
#pragma once

#include <cstdint>

#include "common/resize_taps.h"

namespace maskformer_ext {

// An axis of a resize: from `in` samples to `middle`, of which `valid` are kept, then to `out`. Where `middle` is 0
// there is one resize only.
struct AxisResize {
  int64_t in, middle, valid, out;
  bool flip;
};

// How many samples make an output: two for one bilinear resize, four for two in a row.
constexpr int taps_of(const AxisResize& axis) {
  const int64_t valid = axis.middle > 0 ? axis.valid : axis.in;
  return axis.middle > 0 && axis.middle != axis.in && axis.out != valid ? 4 : 2;
}

// out = sum over taps of weight * in[index]. The last two taps have weight 0 where two are enough.
struct alignas(16) AxisTaps {
  int32_t index[4];
  float weight[4];
};

// The two axes of a resize.
struct PlaneResize {
  AxisResize rows, columns;
};

// Taps that serve both axes, so that a kernel needs two instances and not four.
constexpr int taps_of(const PlaneResize& resize) {
  return taps_of(resize.rows) > taps_of(resize.columns) ? taps_of(resize.rows) : taps_of(resize.columns);
}

namespace MASKFORMER_EXT_VARIANT {

// The samples that output x is made of.
constexpr AxisTaps axis_taps(const AxisResize& axis, int64_t x) {
  const int64_t valid = axis.middle > 0 ? axis.valid : axis.in;
  const ResizeTap last = resize_tap(axis.flip ? axis.out - 1 - x : x, valid, axis.out);
  int64_t index[4] = {last.lower, last.upper, last.lower, last.upper};
  double weight[4] = {1.0 - last.weight, last.weight, 0.0, 0.0};
  if (axis.middle > 0) {
    const int64_t between[2] = {last.lower, last.upper};
    const double share[2] = {1.0 - last.weight, last.weight};
    for (int i = 0; i < 2; ++i) {
      const ResizeTap first = resize_tap(between[i], axis.in, axis.middle);
      index[2 * i] = first.lower;
      index[2 * i + 1] = first.upper;
      weight[2 * i] = share[i] * (1.0 - first.weight);
      weight[2 * i + 1] = share[i] * first.weight;
    }
    // One of the two resizes may be none: two taps of the other.
    if (taps_of(axis) == 2 && axis.out != valid) {
      index[1] = index[2];
      weight[1] = weight[2];
    }
  }
  const bool four = taps_of(axis) == 4;
  AxisTaps taps = {};
  for (int tap = 0; tap < 4; ++tap) {
    taps.index[tap] = static_cast<int32_t>(four || tap < 2 ? index[tap] : index[0]);
    taps.weight[tap] = four || tap < 2 ? static_cast<float>(weight[tap]) : 0.0f;
  }
  return taps;
}

}  // namespace MASKFORMER_EXT_VARIANT
}  // namespace maskformer_ext
