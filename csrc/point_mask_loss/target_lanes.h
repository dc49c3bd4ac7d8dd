// Samples the targets of masks at points, whatever form they have. Host only, torch-free.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/dtype.h"
#include "common/point_lanes.h"
#include "point_mask_loss/point_mask_loss.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

typedef int32_t IntQuad __attribute__((vector_size(16)));

// Two neighbouring pixels and those a row further, of each type of storage.
inline __attribute__((always_inline)) IntQuad square_of(const int32_t* at, int64_t row_stride) {
  typedef int64_t Rows __attribute__((vector_size(16)));
  int64_t upper, lower;
  std::memcpy(&upper, at, sizeof(upper));
  std::memcpy(&lower, at + row_stride, sizeof(lower));
  return (IntQuad)Rows{upper, lower};
}
inline __attribute__((always_inline)) FloatQuad square_of(const float* at, int64_t row_stride) {
  return (FloatQuad)square_of(reinterpret_cast<const int32_t*>(at), row_stride);
}
inline __attribute__((always_inline)) IntQuad square_of(const int16_t* at, int64_t row_stride) {
  typedef int16_t ShortQuad __attribute__((vector_size(8)));
  ShortQuad pixels;
  std::memcpy(&pixels, at, 4);
  std::memcpy(reinterpret_cast<char*>(&pixels) + 4, at + row_stride, 4);
  return __builtin_convertvector(pixels, IntQuad);
}
inline __attribute__((always_inline)) IntQuad square_of(const uint8_t* at, int64_t row_stride) {
  return IntQuad{at[0], at[1], at[row_stride], at[row_stride + 1]};
}
template <class T>
inline __attribute__((always_inline)) FloatQuad square_of(const T* at, int64_t row_stride) {
  return FloatQuad{to_float(at[0]), to_float(at[1]), to_float(at[row_stride]), to_float(at[row_stride + 1])};
}

// What a mask's target holds, read from storage of each kind: `raw` of single pixels, `value` of all lanes at once.
template <class Id>
struct SegmentPixels {
  const Id* data;
  int32_t segment;
  using Raw = IntVec;
  int32_t raw(int64_t pixel) const { return data[pixel]; }
  FloatVec value(IntVec ids) const { return ids == segment ? FloatVec{} + 1.0f : FloatVec{}; }
};
struct FlagPixels {
  const uint8_t* data;
  using Raw = IntVec;
  int32_t raw(int64_t pixel) const { return data[pixel]; }
  FloatVec value(IntVec flags) const { return flags != 0 ? FloatVec{} + 1.0f : FloatVec{}; }
};
template <class T>
struct ValuePixels {
  const T* data;
  using Raw = FloatVec;
  float raw(int64_t pixel) const { return to_float(data[pixel]); }
  FloatVec value(FloatVec values) const { return values; }
};

// Calls body with the pixels of a mask's target.
template <class Body>
void with_target_pixels(const PointMaskLossParams& p, int64_t mask, Body&& body) {
  const int64_t begin = p.plane[mask];
  switch (p.target_kind) {
    case TargetKind::map_i16:
      return body(SegmentPixels<int16_t>{static_cast<const int16_t*>(p.targets) + begin,
                                         static_cast<int32_t>(p.segment[mask])});
    case TargetKind::map_i32:
      return body(SegmentPixels<int32_t>{static_cast<const int32_t*>(p.targets) + begin,
                                         static_cast<int32_t>(p.segment[mask])});
    case TargetKind::flags:
      return body(FlagPixels{static_cast<const uint8_t*>(p.targets) + begin});
    case TargetKind::values:
      return for_float_type(p.target_dtype, [&](auto type) {
        using T = decltype(type);
        body(ValuePixels<T>{static_cast<const T*>(p.targets) + begin});
      });
  }
}

template <class Pixels>
__attribute__((always_inline)) inline FloatVec sample_pixels(const PointMaskLossParams& p, const Pixels& pixels,
                                                             PointLanes points) {
  const CellLanes cell = cells_of(points, p.target_height, p.target_width);
  FloatVec weight[4], value[4];
  cell_weights(cell, weight);
  const auto last_column = static_cast<int32_t>(p.target_width - 1),
             last_row = static_cast<int32_t>(p.target_height - 1);
  const IntVec zero{};
  const IntVec has_left = cell.inside & (cell.column >= 0), has_right = cell.inside & (cell.column < last_column);
  const IntVec has_upper = cell.row >= 0, has_lower = cell.row < last_row;
  const IntVec left = has_left ? cell.column : zero, right = has_right ? cell.column + 1 : zero;
  const auto stride = static_cast<int32_t>(p.target_row_stride);
  const IntVec upper = (has_upper ? cell.row : zero) * stride, lower = (has_lower ? cell.row + 1 : zero) * stride;
  const IntVec exists[4] = {has_left & has_upper, has_right & has_upper, has_left & has_lower, has_right & has_lower};
  const IntVec index[4] = {upper + left, upper + right, lower + left, lower + right};
  for (int tap = 0; tap < 4; ++tap) {
    int32_t at[kLanes];
    store_lanes(at, index[tap]);
    typename Pixels::Raw raw;
    for (int lane = 0; lane < kLanes; ++lane) raw[lane] = pixels.raw(at[lane]);
    value[tap] = pixels.value(raw);
    weight[tap] = exists[tap] ? weight[tap] : FloatVec{};
  }
  return blend_taps(weight, value);
}

// The same samples as `sample_pixels`, of targets of at least 2 x 2 pixels, several times faster. A square of pixels
// that sticks out is moved inside, and its weights with it.
template <class Pixels>
__attribute__((always_inline)) inline FloatVec sample_squares(const PointMaskLossParams& p, const Pixels& pixels,
                                                              PointLanes points) {
  CellLanes cell = cells_of(points, p.target_height, p.target_width);
  const FloatVec none{}, left = 1.0f - cell.right_weight, upper = 1.0f - cell.lower_weight;
  const auto last_column = static_cast<int32_t>(p.target_width - 2),
             last_row = static_cast<int32_t>(p.target_height - 2);
  const IntVec zero{}, before = cell.column<0, behind = cell.column> last_column;
  const IntVec above = cell.row<0, below = cell.row> last_row;
  const FloatVec first = before ? cell.right_weight : behind ? none : left;
  const FloatVec second = before ? none : behind ? left : cell.right_weight;
  const FloatVec top = above ? cell.lower_weight : below ? none : upper;
  const FloatVec bottom = above ? none : below ? upper : cell.lower_weight;
  const IntVec column = before ? zero : behind ? zero + last_column : cell.column;
  const IntVec row = above ? zero : below ? zero + last_row : cell.row;
  int32_t at[kLanes];
  store_lanes(at, row * static_cast<int32_t>(p.target_row_stride) + column);
  FloatVec raw[4];
  load_fours([&](int lane) { return (FloatQuad)square_of(pixels.data + at[lane], p.target_row_stride); }, raw);
  FloatVec weight[4] = {first * top, second * top, first * bottom, second * bottom};
  FloatVec value[4];
  for (int tap = 0; tap < 4; ++tap) {
    weight[tap] = cell.inside ? weight[tap] : none;
    value[tap] = pixels.value((typename Pixels::Raw)raw[tap]);
  }
  return blend_taps(weight, value);
}

template <class Pixels>
FloatVec nearest_pixels(const PointMaskLossParams& p, const Pixels& pixels, PointLanes points) {
  typename Pixels::Raw raw{};
  IntVec exists{};
  for (int lane = 0; lane < kLanes; ++lane) {
    const int64_t pixel =
        nearest_pixel(points.x[lane], points.y[lane], p.target_height, p.target_width, p.target_row_stride);
    raw[lane] = pixel >= 0 ? pixels.raw(pixel) : 0;
    exists[lane] = pixel >= 0;
  }
  return exists != 0 ? pixels.value(raw) : FloatVec{};
}

// Samples the target of a mask at points [begin, end), kLanes at a time; the vectors behind `end` are filled up with 0.
inline void sample_targets(const PointMaskLossParams& p, int64_t mask, int64_t begin, int64_t end, float* values) {
  const float* points = p.points + 2 * mask * p.num_points;
  const auto each = [&](const auto& sample) {
    for (int64_t i = begin; i < end; i += kLanes)
      store(values + (i - begin), sample(load_points(points + 2 * i, end - i)));
  };
  with_target_pixels(p, mask, [&](const auto& pixels) {
    if (p.nearest) return each([&](PointLanes lanes) { return nearest_pixels(p, pixels, lanes); });
    if (p.target_height > 1 && p.target_width > 1) {
      return each([&](PointLanes lanes) { return sample_squares(p, pixels, lanes); });
    }
    each([&](PointLanes lanes) { return sample_pixels(p, pixels, lanes); });
  });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
