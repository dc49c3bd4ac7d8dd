// The inner loops: sums of the cells that a query's points read, and what backward adds to these cells.
//
// `Taps` is 4 for an interpolation and 1 for a single cell. `Vectors` is the number of vectors of a cell's channels, or
// 0 where it is known at run time only.
#pragma once

#include <cstdint>

#include "common/vec.h"
#include "ms_deform_attn/placed_points.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// How many sums of a row run side by side: each addition waits for the one before it, so one would be slow.
template <int Vectors>
inline constexpr int kSideBySide = Vectors * 4 <= 8 || kLanes == 16 ? 4 : 2;

// Pointers that a compiler can keep in registers.
struct PointArrays {
  explicit PointArrays(const PlacedPoints& points)
      : cell(points.cell.data()),
        pitch(points.pitch.data()),
        share{points.share[0].data(), points.share[1].data(), points.share[2].data(), points.share[3].data()} {}
  const int32_t* cell;
  const int32_t* pitch;
  const float* share[4];
};

// Writes the sum of the cells that points [begin, end) read, of `Vectors` vectors at `panel`. `stride` is the number of
// floats per cell; 0: just these vectors.
template <int Taps, int Vectors>
inline __attribute__((always_inline)) void sum_taps(const PointArrays& points, const float* __restrict panel,
                                                    int64_t stride, int64_t begin, int64_t end, float* __restrict out) {
  constexpr int kSums = kSideBySide<Vectors>;
  const int64_t channels = stride == 0 ? Vectors * kLanes : stride;
  FloatVec sum[kSums][Vectors] = {};
  for (int64_t i = begin; i < end; ++i) {
    const float* above = panel + points.cell[i] * channels;
    const float* below = above + points.pitch[i] * channels;
    const float* taps[4] = {above, above + channels, below, below + channels};
#pragma GCC unroll 4
    for (int tap = 0; tap < Taps; ++tap) {
      const FloatVec share = broadcast(points.share[tap][i]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[tap % kSums][v] += share * load<FloatVec>(taps[tap] + v * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) {
    FloatVec total = sum[0][v];
    for (int other = 1; other < kSums; ++other) total += sum[other][v];
    store(out + v * kLanes, total);
  }
}

// Lane i of the result is the sum of the lanes of parts[i]. Halves are added, then quarters, and so on.
inline __attribute__((always_inline)) FloatVec sums_of(FloatVec (&parts)[kLanes]) {
#if defined(__AVX512F__)
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const FloatVec a = parts[i], b = parts[i + 8];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const FloatVec a = parts[i], b = parts[i + 4];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const FloatVec a = parts[i], b = parts[i + 2];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
               __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  const FloatVec a = parts[0], b = parts[1];
  return __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
         __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
#elif defined(__AVX2__)
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const FloatVec a = parts[i], b = parts[i + 4];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
               __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const FloatVec a = parts[i], b = parts[i + 2];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
               __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  const FloatVec a = parts[0], b = parts[1];
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
         __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
#else
  for (int i = 0; i < 2; ++i) {
    const FloatVec a = parts[i], b = parts[i + 2];
    parts[i] = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  }
  const FloatVec a = parts[0], b = parts[1];
  return __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
#endif
}

// What backward reads and writes: `vectors` vectors per cell of both panels.
struct TapPanels {
  const float* values;  // null where no products are asked for
  float* grads;         // null where no gradient of the values is asked for
  int64_t vectors;
};

// The taps of point i: their products with grad to parts, and share * grad to the cells of grads.
template <int Taps, int Vectors, bool to_value, bool to_points>
inline __attribute__((always_inline)) void spread_point(const PointArrays& points, const TapPanels& panels,
                                                        const float* __restrict grad, int64_t i, FloatVec* parts) {
  const int64_t vectors = Vectors > 0 ? Vectors : panels.vectors, channels = vectors * kLanes;
  const int64_t above = points.cell[i] * channels, below = above + points.pitch[i] * channels;
  const int64_t cells[4] = {above, above + channels, below, below + channels};
#pragma GCC unroll 4
  for (int tap = 0; tap < Taps; ++tap) {
    if constexpr (to_points) {
      const float* __restrict values = panels.values + cells[tap];
      FloatVec part = {};
#pragma GCC unroll 4
      for (int64_t v = 0; v < vectors; ++v) {
        part += load<FloatVec>(grad + v * kLanes) * load<FloatVec>(values + v * kLanes);
      }
      parts[tap] = part;
    }
    if constexpr (to_value) {
      float* __restrict grads = panels.grads + cells[tap];
      const FloatVec share = broadcast(points.share[tap][i]);
#pragma GCC unroll 4
      for (int64_t v = 0; v < vectors; ++v) {
        store(grads + v * kLanes, load<FloatVec>(grads + v * kLanes) + share * load<FloatVec>(grad + v * kLanes));
      }
    }
  }
  for (int tap = Taps; tap < 4; ++tap) parts[tap] = FloatVec{};
}

// For points [begin, end): products[4 * point + tap] = grad . cell, and cell of grads += share * grad.
template <int Taps, int Vectors, bool to_value, bool to_points>
inline __attribute__((always_inline)) void spread_taps(const PointArrays& points, const TapPanels& panels,
                                                       const float* __restrict grad, int64_t begin, int64_t end,
                                                       float* __restrict products) {
  constexpr int kPoints = kLanes / 4;  // whose products fill a vector
  int64_t i = begin;
  for (; i + kPoints <= end; i += kPoints) {
    FloatVec parts[kLanes];
#pragma GCC unroll 4
    for (int j = 0; j < kPoints; ++j) {
      spread_point<Taps, Vectors, to_value, to_points>(points, panels, grad, i + j, parts + 4 * j);
    }
    if constexpr (to_points) store(products + 4 * i, sums_of(parts));
  }
  if (i == end) return;
  FloatVec parts[kLanes] = {};
  for (int64_t j = 0; j < end - i; ++j) {
    spread_point<Taps, Vectors, to_value, to_points>(points, panels, grad, i + j, parts + 4 * j);
  }
  if constexpr (to_points) store(products + 4 * i, sums_of(parts));
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
