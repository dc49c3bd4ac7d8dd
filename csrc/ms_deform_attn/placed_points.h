// Sampling points of a block of queries, placed in a panel: the cells that they read, and the shares of these.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "common/aligned.h"
#include "common/convert.h"
#include "common/point_position.h"
#include "common/vec.h"
#include "ms_deform_attn/ms_deform_attn.h"
#include "ms_deform_attn/short_rows.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// One array per quantity, so that points are placed a vector at a time. Point n of query q is at q * N + n.
class PlacedPoints {
 public:
  explicit PlacedPoints(const MsDeformAttnParams& p)
      : params_(p), count_(p.total_points), capacity_((kQueries * count_ + kLanes - 1) / kLanes * kLanes) {
    for (AlignedVector<int32_t>* ints : {&cell, &pitch, &first_}) ints->resize(capacity_);
    for (AlignedVector<float>* floats :
         {&lx, &ly, &weight, &share[0], &share[1], &share[2], &share[3], &width_, &height_, &dweight}) {
      floats->resize(capacity_);
    }
    pairs_.resize(2 * capacity_);
    const PanelLayout layout(p);
    int64_t point = 0;
    layout.for_levels(p, [&](int64_t level, int64_t height, int64_t width, int64_t first, int64_t) {
      for (int64_t i = 0; i < p.points[level]; ++i, ++point) {
        for (int64_t query = 0; query < kQueries; ++query) {
          const int64_t at = query * count_ + point;
          width_[at] = static_cast<float>(width);
          height_[at] = static_cast<float>(height);
          first_[at] = static_cast<int32_t>(first);
          pitch[at] = static_cast<int32_t>(width + 1);
        }
      }
    });
  }

  // Places the points of `queries` queries from `first` on.
  void place(int64_t image, int64_t head, int64_t first, int64_t queries) {
    const int64_t begin = ((image * params_.queries + first) * params_.heads + head) * count_;
    const int64_t step = params_.heads * count_, ahead = std::min(kQueries, params_.queries - first - queries);
    load_rows(params_.locations, params_.locations_dtype, 2 * begin, 2 * step, queries, ahead, 2 * count_,
              pairs_.data());
    load_rows(params_.weights, params_.weights_dtype, begin, step, queries, ahead, count_, weight.data());
    const int64_t used = (queries * count_ + kLanes - 1) / kLanes * kLanes;
    params_.discrete ? place_cells(used) : place_taps(used);
  }

  // Turns the products of grad with the taps, (points, 4), into the gradients of locations and weights.
  __attribute__((noinline)) void differentiate(const float* __restrict products, int64_t queries) {
    const int64_t used = queries * count_;
    const float *__restrict xs = lx.data(), *__restrict ys = ly.data(), *__restrict weights = weight.data(),
          *__restrict widths = width_.data(), *__restrict heights = height_.data();
    float* __restrict to_pairs = pairs_.data(), * __restrict to_weights = dweight.data();
    if (params_.discrete) {
      std::fill_n(to_pairs, 2 * used, 0.0f);
      for (int64_t i = 0; i < used; ++i) to_weights[i] = products[4 * i];
      return;
    }
#pragma omp simd
    for (int64_t i = 0; i < used; ++i) {
      const float p0 = products[4 * i], p1 = products[4 * i + 1], p2 = products[4 * i + 2], p3 = products[4 * i + 3];
      const float fx = xs[i], fy = ys[i], gx = 1.0f - fx, gy = 1.0f - fy;
      to_pairs[2 * i] = weights[i] * widths[i] * (gy * (p1 - p0) + fy * (p3 - p2));
      to_pairs[2 * i + 1] = weights[i] * heights[i] * (gx * (p2 - p0) + fx * (p3 - p1));
      to_weights[i] = gy * (gx * p0 + fx * p1) + fy * (gx * p2 + fx * p3);
    }
  }

  // Writes these gradients.
  void write_gradients(int64_t image, int64_t head, int64_t first, int64_t queries) {
    const int64_t begin = ((image * params_.queries + first) * params_.heads + head) * count_;
    const int64_t step = params_.heads * count_;
    store_rows(pairs_.data(), 2 * count_, queries, params_.grad_locations, params_.locations_dtype, 2 * begin,
               2 * step);
    store_rows(dweight.data(), count_, queries, params_.grad_weights, params_.weights_dtype, begin, step);
  }

  AlignedVector<int32_t> cell, pitch;  // the first tap in the panel, and how far below it the third one is
  AlignedVector<float> lx, ly;         // the point between the taps, from 0 to 1 up to rounding
  AlignedVector<float> weight;         // of attention
  AlignedVector<float> share[4];       // weight times the share of a tap: left and right, above and below

 private:
  static constexpr int64_t kQueries = MsDeformAttnParams::kQueries;

  // Rows of `count` elements, `step` apart, to floats side by side. The `ahead` rows after them are fetched: they are
  // too far apart for the processor to foresee.
  static void load_rows(const void* from, DType dtype, int64_t begin, int64_t step, int64_t rows, int64_t ahead,
                        int64_t count, float* __restrict to) {
    for_float_type(dtype, [&](auto type) {
      using T = decltype(type);
      const T* row = static_cast<const T*>(from) + begin;
      for (int64_t i = 0; i < rows; ++i, row += step, to += count) {
        load_row(row, count, to);
        if (i >= ahead) continue;
        const char* next = reinterpret_cast<const char*>(row + rows * step);
        for (int64_t byte = 0; byte < count * int64_t{sizeof(T)}; byte += 64) __builtin_prefetch(next + byte);
      }
    });
  }

  static void store_rows(const float* __restrict from, int64_t count, int64_t rows, void* to, DType dtype,
                         int64_t begin, int64_t step) {
    for_float_type(dtype, [&](auto type) {
      using T = decltype(type);
      T* row = static_cast<T*>(to) + begin;
      for (int64_t i = 0; i < rows; ++i, row += step, from += count) store_row(from, count, row);
    });
  }

  // The two coordinates of the points of a vector.
  void load_pairs(int64_t at, FloatVec& x, FloatVec& y) const {
    const FloatVec a = load<FloatVec>(pairs_.data() + 2 * at), b = load<FloatVec>(pairs_.data() + 2 * at + kLanes);
#if defined(__AVX512F__)
    x = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    y = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX2__)
    x = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
    y = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    x = __builtin_shufflevector(a, b, 0, 2, 4, 6);
    y = __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
  }

  void place_taps(int64_t used) {
    const FloatVec unknown = broadcast(std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < used; i += kLanes) {
      FloatVec x, y;
      load_pairs(i, x, y);
      const FloatVec width = load<FloatVec>(width_.data() + i), height = load<FloatVec>(height_.data() + i);
      const FloatVec px = point_position(x, width), py = point_position(y, height);
      const IntVec inside = (px >= -1.0f) & (px < width) & (py >= -1.0f) & (py < height);
      const FloatVec cx = inside ? px : FloatVec{}, cy = inside ? py : FloatVec{};  // integers can hold them
      IntVec column = __builtin_convertvector(cx, IntVec), row = __builtin_convertvector(cy, IntVec);
      column += __builtin_convertvector(column, FloatVec) > cx;  // true is -1
      row += __builtin_convertvector(row, FloatVec) > cy;
      // Rounded once, so that the error does not grow with the size of a level.
      const FloatVec between_x = multiply_add_exactly(x, width, -0.5f - __builtin_convertvector(column, FloatVec));
      const FloatVec between_y = multiply_add_exactly(y, height, -0.5f - __builtin_convertvector(row, FloatVec));
      const FloatVec fx = inside ? between_x : FloatVec{}, fy = inside ? between_y : FloatVec{};
      const IntVec at = load<IntVec>(first_.data() + i) + row * load<IntVec>(pitch.data() + i) + column;
      store_ints(cell.data() + i, inside ? at : IntVec{});
      const FloatVec a = (x != x) | (y != y) ? unknown : load<FloatVec>(weight.data() + i);
      const FloatVec above = a * (1.0f - fy), below = a * fy;
      store(lx.data() + i, fx);
      store(ly.data() + i, fy);
      store(share[0].data() + i, above * (1.0f - fx));
      store(share[1].data() + i, above * fx);
      store(share[2].data() + i, below * (1.0f - fx));
      store(share[3].data() + i, below * fx);
    }
  }

  void place_cells(int64_t used) {
    const FloatVec unknown = broadcast(std::numeric_limits<float>::quiet_NaN()), half = broadcast(0.5f);
    for (int64_t i = 0; i < used; i += kLanes) {
      FloatVec x, y;
      load_pairs(i, x, y);
      const FloatVec width = load<FloatVec>(width_.data() + i), height = load<FloatVec>(height_.data() + i);
      FloatVec px = multiply_then_add(x, width, half), py = multiply_then_add(y, height, half);
      px = px > 0.0f ? px : FloatVec{};  // NaN too
      py = py > 0.0f ? py : FloatVec{};
      px = px < width - 1.0f ? px : width - 1.0f;
      py = py < height - 1.0f ? py : height - 1.0f;
      const IntVec column = __builtin_convertvector(px, IntVec), row = __builtin_convertvector(py, IntVec);
      const IntVec at = load<IntVec>(first_.data() + i) + row * load<IntVec>(pitch.data() + i) + column;
      const IntVec known = (x == x) & (y == y);
      store_ints(cell.data() + i, known ? at : IntVec{});
      store(share[0].data() + i, known ? load<FloatVec>(weight.data() + i) : unknown);
    }
  }

  static void store_ints(int32_t* to, IntVec vec) { std::memcpy(to, &vec, sizeof(vec)); }

  const MsDeformAttnParams& params_;
  int64_t count_, capacity_;
  AlignedVector<int32_t> first_;
  AlignedVector<float> width_, height_;
  AlignedVector<float> pairs_;   // locations, later their gradients
  AlignedVector<float> dweight;  // gradients of the weights
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
