// Points of a map, one per lane of a vector: their coordinates, taps and samples. Host only, torch-free.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "common/point_taps.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

struct PointLanes {
  FloatVec x, y;
};

// Reads kLanes points (x, y).
inline __attribute__((always_inline)) PointLanes load_points(const float* points) {
  const auto a = load<FloatVec>(points), b = load<FloatVec>(points + kLanes);
#if defined(__AVX512F__)
  return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
          __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
#elif defined(__AVX2__)
  return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14),
          __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)};
#else
  return {__builtin_shufflevector(a, b, 0, 2, 4, 6), __builtin_shufflevector(a, b, 1, 3, 5, 7)};
#endif
}

// Reads `count` points, at most kLanes. The other lanes get points that lie outside every map.
inline PointLanes load_points(const float* points, int64_t count) {
  if (count >= kLanes) return load_points(points);
  float padded[2 * kLanes];
  for (int64_t i = 0; i < 2 * kLanes; ++i) {
    padded[i] = i < 2 * count ? points[i] : std::numeric_limits<float>::quiet_NaN();
  }
  return load_points(padded);
}

// Where points lie between the pixels of a map. Positions of points that read no pixel are 0.
struct CellLanes {
  IntVec column, row;  // of the top left pixel, from -1
  FloatVec right_weight, lower_weight;
  IntVec inside;  // whether a point reads any pixel
};

inline __attribute__((always_inline)) CellLanes cells_of(PointLanes points, int64_t height, int64_t width) {
  const auto h = static_cast<float>(height), w = static_cast<float>(width);
  FloatVec x = point_position(points.x, w), y = point_position(points.y, h);
  CellLanes cell;
  cell.inside = (x > -1.0f) & (x < w) & (y > -1.0f) & (y < h);
  x = cell.inside ? x : FloatVec{};
  y = cell.inside ? y : FloatVec{};
  const auto floored = [](FloatVec position) {
    const IntVec truncated = __builtin_convertvector(position, IntVec);
    return truncated + (__builtin_convertvector(truncated, FloatVec) > position);  // a true lane is -1
  };
  cell.column = floored(x);
  cell.row = floored(y);
  cell.right_weight = x - __builtin_convertvector(cell.column, FloatVec);
  cell.lower_weight = y - __builtin_convertvector(cell.row, FloatVec);
  return cell;
}

// The weights of a cell's pixels, top left, top right, bottom left, bottom right.
inline __attribute__((always_inline)) void cell_weights(const CellLanes& cell, FloatVec* weight) {
  const FloatVec left_weight = 1.0f - cell.right_weight, upper_weight = 1.0f - cell.lower_weight;
  weight[0] = left_weight * upper_weight;
  weight[1] = cell.right_weight * upper_weight;
  weight[2] = left_weight * cell.lower_weight;
  weight[3] = cell.right_weight * cell.lower_weight;
}

// Transposes groups of four lanes: lane 4 j + k of vector i becomes lane 4 j + i of vector k.
inline __attribute__((always_inline)) void transpose_fours(FloatVec* v) {
#if defined(__AVX512F__)
  const auto a = (__m512)v[0], b = (__m512)v[1], c = (__m512)v[2], d = (__m512)v[3];
  const __m512d low_ab = (__m512d)__builtin_shufflevector((FloatVec)a, (FloatVec)b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24,
                                                          9, 25, 12, 28, 13, 29);
  const __m512d high_ab = (__m512d)__builtin_shufflevector((FloatVec)a, (FloatVec)b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26,
                                                           11, 27, 14, 30, 15, 31);
  const __m512d low_cd = (__m512d)__builtin_shufflevector((FloatVec)c, (FloatVec)d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24,
                                                          9, 25, 12, 28, 13, 29);
  const __m512d high_cd = (__m512d)__builtin_shufflevector((FloatVec)c, (FloatVec)d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26,
                                                           11, 27, 14, 30, 15, 31);
  v[0] = (FloatVec)__builtin_shufflevector(low_ab, low_cd, 0, 8, 2, 10, 4, 12, 6, 14);
  v[1] = (FloatVec)__builtin_shufflevector(low_ab, low_cd, 1, 9, 3, 11, 5, 13, 7, 15);
  v[2] = (FloatVec)__builtin_shufflevector(high_ab, high_cd, 0, 8, 2, 10, 4, 12, 6, 14);
  v[3] = (FloatVec)__builtin_shufflevector(high_ab, high_cd, 1, 9, 3, 11, 5, 13, 7, 15);
#elif defined(__AVX2__)
  const auto a = (__m256)v[0], b = (__m256)v[1], c = (__m256)v[2], d = (__m256)v[3];
  const auto low_ab = (__m256d)_mm256_unpacklo_ps(a, b), high_ab = (__m256d)_mm256_unpackhi_ps(a, b);
  const auto low_cd = (__m256d)_mm256_unpacklo_ps(c, d), high_cd = (__m256d)_mm256_unpackhi_ps(c, d);
  v[0] = (FloatVec)_mm256_unpacklo_pd(low_ab, low_cd);
  v[1] = (FloatVec)_mm256_unpackhi_pd(low_ab, low_cd);
  v[2] = (FloatVec)_mm256_unpacklo_pd(high_ab, high_cd);
  v[3] = (FloatVec)_mm256_unpackhi_pd(high_ab, high_cd);
#else
  const FloatVec low_ab = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const FloatVec high_ab = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const FloatVec low_cd = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const FloatVec high_cd = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7);
#endif
}

// Stores a vector for reads of single lanes. Without the barrier GCC takes lanes out of the register one by one, which
// is several times slower than reading them back.
inline __attribute__((always_inline)) void store_lanes(int32_t* to, IntVec vec) {
  std::memcpy(to, &vec, sizeof(vec));
  asm volatile("" : : "r"(to) : "memory");
}

typedef float FloatQuad __attribute__((vector_size(16)));

// Reads four floats per lane. Lane i of vector k is element k of quad(i).
template <class Quad>
inline __attribute__((always_inline)) void load_fours(const Quad& quad, FloatVec* v) {
  for (int i = 0; i < 4; ++i) {
#if defined(__AVX512F__)
    __m512 joined = _mm512_castps128_ps512((__m128)quad(i));
    joined = _mm512_maskz_insertf32x4(0xffff, joined, (__m128)quad(i + 4), 1);  // plain: GCC 12 warns
    joined = _mm512_maskz_insertf32x4(0xffff, joined, (__m128)quad(i + 8), 2);
    joined = _mm512_maskz_insertf32x4(0xffff, joined, (__m128)quad(i + 12), 3);
    v[i] = (FloatVec)joined;
#elif defined(__AVX2__)
    v[i] = (FloatVec)_mm256_insertf128_ps(_mm256_castps128_ps256((__m128)quad(i)), (__m128)quad(i + 4), 1);
#else
    v[i] = quad(i);
#endif
  }
  transpose_fours(v);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
