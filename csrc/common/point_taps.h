// The pixels that a point of a map reads, and their weights: grid_sample with align_corners=False and zeros outside.
// One source for host and device, torch-free.
//
// Positions, weights and samples are rounded as torch's grid_sample rounds them in float32, fused products included. A
// comparison between nearly equal samples therefore turns out as with torch.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/math.h"
#include "common/point_position.h"

namespace maskformer_ext {

// The four pixels around a point, top left, top right, bottom left, bottom right. Every index is inside the map. A
// pixel that is not has weight 0, and so have all where the point lies outside or is not finite.
struct PointTaps {
  int64_t index[4];  // row * row_stride + column
  float weight[4];
};

namespace MASKFORMER_EXT_VARIANT {

// a * b + c, rounded once where the instruction set can do that. vec.h has it for vectors.
MASKFORMER_EXT_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
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

// A pixel without weight adds nothing, even if it is infinite or NaN.
template <class F>
MASKFORMER_EXT_HD F where_weighted(F weight, F value) {
  return weight != 0.0f ? value : F{};
}

// The sample at a point from what its four pixels hold, both in the order of PointTaps.
template <class F>
MASKFORMER_EXT_HD F blend_taps(const F* weight, const F* value) {
  F sum = weight[0] * where_weighted(weight[0], value[0]);
  for (int tap = 1; tap < 4; ++tap) sum = multiply_add(weight[tap], where_weighted(weight[tap], value[tap]), sum);
  return sum;
}

// The same, of the pixels' values one by one.
MASKFORMER_EXT_HD float blend_taps(const PointTaps& taps, float a, float b, float c, float d) {
  const float value[4] = {a, b, c, d};
  return blend_taps(taps.weight, value);
}

}  // namespace MASKFORMER_EXT_VARIANT
}  // namespace maskformer_ext
