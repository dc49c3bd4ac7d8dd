// The pixels that a point of a map reads, and their weights: grid_sample with align_corners=False and zeros outside.
// One source for host and device, torch-free.
//
// Positions and weights are rounded as torch's grid_sample rounds them in float32. A product followed by a sum is fused
// there, and compilers fuse the same ones here. Comparisons between nearly equal samples therefore rarely turn out
// differently.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/math.h"

namespace maskformer_ext {

// The four pixels around a point, top left, top right, bottom left, bottom right. Every index is inside the map. A
// pixel that is not has weight 0, and so have all where the point lies outside or is not finite.
struct PointTaps {
  int64_t index[4];  // row * row_stride + column
  float weight[4];
};

namespace MASKFORMER_EXT_VARIANT {

// Where a coordinate in [0, 1] lies in pixels, counted from the centre of the first one. Takes float and FloatVec.
template <class F>
MASKFORMER_EXT_HD F point_position(F coordinate, float size) {
  const F grid = 2.0f * coordinate - 1.0f;  // what grid_sample is given
  return (grid + 1.0f) * (0.5f * size) - 0.5f;
}

// Whether a position reads a pixel of an axis at all. False for NaN.
MASKFORMER_EXT_HD bool reads_pixels(float position, int64_t size) {
  return position > -1.0f && position < static_cast<float>(size);
}

MASKFORMER_EXT_HD PointTaps point_taps(float x, float y, int64_t height, int64_t width, int64_t row_stride) {
  const float column = point_position(x, static_cast<float>(width));
  const float row = point_position(y, static_cast<float>(height));
  PointTaps taps = {};
  if (!reads_pixels(column, width) || !reads_pixels(row, height)) return taps;
  const float left = std::floor(column), top = std::floor(row);
  const float right_weight = column - left, lower_weight = row - top;
  const float left_weight = 1.0f - right_weight, upper_weight = 1.0f - lower_weight;
  const auto x0 = static_cast<int64_t>(left), y0 = static_cast<int64_t>(top);
  const bool has_left = x0 >= 0, has_right = x0 + 1 < width, has_upper = y0 >= 0, has_lower = y0 + 1 < height;
  const int64_t x_left = has_left ? x0 : 0, x_right = has_right ? x0 + 1 : width - 1;
  const int64_t upper = (has_upper ? y0 : 0) * row_stride, lower = (has_lower ? y0 + 1 : height - 1) * row_stride;
  taps.index[0] = upper + x_left;
  taps.index[1] = upper + x_right;
  taps.index[2] = lower + x_left;
  taps.index[3] = lower + x_right;
  taps.weight[0] = has_upper && has_left ? left_weight * upper_weight : 0.0f;
  taps.weight[1] = has_upper && has_right ? right_weight * upper_weight : 0.0f;
  taps.weight[2] = has_lower && has_left ? left_weight * lower_weight : 0.0f;
  taps.weight[3] = has_lower && has_right ? right_weight * lower_weight : 0.0f;
  return taps;
}

// The pixel nearest to a point, row * row_stride + column; halves go to the even pixel. -1 where the point lies outside
// the map or is not finite.
MASKFORMER_EXT_HD int64_t nearest_pixel(float x, float y, int64_t height, int64_t width, int64_t row_stride) {
  const float column = point_position(x, static_cast<float>(width));
  const float row = point_position(y, static_cast<float>(height));
  if (!reads_pixels(column, width) || !reads_pixels(row, height)) return -1;
  const auto nearest_x = static_cast<int64_t>(std::nearbyint(column));
  const auto nearest_y = static_cast<int64_t>(std::nearbyint(row));
  if (nearest_x < 0 || nearest_x >= width || nearest_y < 0 || nearest_y >= height) return -1;
  return nearest_y * row_stride + nearest_x;
}

// The sample at a point, from what its pixels hold. A pixel without weight adds nothing, even if it is infinite.
MASKFORMER_EXT_HD float blend_taps(const PointTaps& taps, float a, float b, float c, float d) {
  a = taps.weight[0] != 0.0f ? a : 0.0f;
  b = taps.weight[1] != 0.0f ? b : 0.0f;
  c = taps.weight[2] != 0.0f ? c : 0.0f;
  d = taps.weight[3] != 0.0f ? d : 0.0f;
  float sum = taps.weight[0] * a;
  sum += taps.weight[1] * b;
  sum += taps.weight[2] * c;
  sum += taps.weight[3] * d;
  return sum;
}

}  // namespace MASKFORMER_EXT_VARIANT
}  // namespace maskformer_ext
