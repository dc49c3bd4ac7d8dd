// Sampling points of a block of queries, placed in a panel: the cells that they read, and the shares of these.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/aligned.h"
#include "common/convert.h"
#include "common/vec.h"
#include "ms_deform_attn/ms_deform_attn.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// One array per quantity, so that points are placed a vector at a time. Point n of query q is at q * N + n.
class PlacedPoints {
 public:
  explicit PlacedPoints(const MsDeformAttnParams& p)
      : params_(p), count_(p.total_points), capacity_((kQueries * count_ + kLanes - 1) / kLanes * kLanes) {
    for (AlignedVector<int32_t>* ints : {&cell, &pitch, &first_}) ints->resize(capacity_);
    for (AlignedVector<float>* floats : {&lx, &ly, &weight, &share[0], &share[1], &share[2], &share[3], &width_,
                                         &height_, &x_, &y_, &dx, &dy, &dweight}) {
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
    for (int64_t query = 0; query < queries; ++query) {
      const int64_t row = ((image * params_.queries + first + query) * params_.heads + head) * count_;
      load_floats(params_.locations, params_.locations_dtype, 2 * row, 2 * count_, pairs_.data() + 2 * query * count_);
      load_floats(params_.weights, params_.weights_dtype, row, count_, weight.data() + query * count_);
    }
    const int64_t used = (queries * count_ + kLanes - 1) / kLanes * kLanes;
    params_.discrete ? place_cells(used) : place_taps(used);
  }

  // Turns the products of grad with the taps, (points, 4), into the gradients of locations and weights.
  __attribute__((noinline)) void differentiate(const float* __restrict products, int64_t queries) {
    const int64_t used = queries * count_;
    if (params_.discrete) {
      for (int64_t i = 0; i < used; ++i) {
        dx[i] = dy[i] = 0.0f;
        dweight[i] = products[4 * i];
      }
      return;
    }
#pragma omp simd
    for (int64_t i = 0; i < used; ++i) {
      const float p0 = products[4 * i], p1 = products[4 * i + 1], p2 = products[4 * i + 2], p3 = products[4 * i + 3];
      const float fx = lx[i], fy = ly[i], gx = 1.0f - fx, gy = 1.0f - fy;
      dx[i] = weight[i] * width_[i] * (gy * (p1 - p0) + fy * (p3 - p2));
      dy[i] = weight[i] * height_[i] * (gx * (p2 - p0) + fx * (p3 - p1));
      dweight[i] = gy * (gx * p0 + fx * p1) + fy * (gx * p2 + fx * p3);
    }
  }

  // Writes these gradients.
  void write_gradients(int64_t image, int64_t head, int64_t first, int64_t queries) {
    for (int64_t i = 0; i < queries * count_; ++i) {
      pairs_[2 * i] = dx[i];
      pairs_[2 * i + 1] = dy[i];
    }
    for (int64_t query = 0; query < queries; ++query) {
      const int64_t row = ((image * params_.queries + first + query) * params_.heads + head) * count_;
      store_floats(pairs_.data() + 2 * query * count_, 2 * count_, params_.grad_locations, params_.locations_dtype,
                   2 * row);
      store_floats(dweight.data() + query * count_, count_, params_.grad_weights, params_.weights_dtype, row);
    }
  }

  AlignedVector<int32_t> cell, pitch;  // the first tap in the panel, and how far below it the third one is
  AlignedVector<float> lx, ly;         // the point between the taps, from 0 to 1
  AlignedVector<float> weight;         // of attention
  AlignedVector<float> share[4];       // weight times the share of a tap: left and right, above and below
  AlignedVector<float> dx, dy, dweight;

 private:
  static constexpr int64_t kQueries = MsDeformAttnParams::kQueries;

  __attribute__((noinline)) void split_pairs(int64_t used) {
#pragma omp simd
    for (int64_t i = 0; i < used; ++i) {
      x_[i] = pairs_[2 * i];
      y_[i] = pairs_[2 * i + 1];
    }
  }

  // x - (column + 1/2), rounded once, so that its error does not grow with the width of a level.
  static float between(float x, float size, float corner) {
#ifdef __FMA__
    return x * size - (corner + 0.5f);  // one instruction
#else
    return static_cast<float>(static_cast<double>(x) * size - (corner + 0.5f));
#endif
  }

  __attribute__((noinline)) void place_taps(int64_t used) {
    split_pairs(used);
    constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
#pragma omp simd
    for (int64_t i = 0; i < used; ++i) {
      const float x = x_[i], y = y_[i], width = width_[i], height = height_[i];
      const float px = x * width - 0.5f, py = y * height - 0.5f;
      const bool inside = (px > -1.0f) & (px < width) & (py > -1.0f) & (py < height);
      const float cx = inside ? px : 0.0f, cy = inside ? py : 0.0f;  // integers can hold them
      int32_t column = static_cast<int32_t>(cx), row = static_cast<int32_t>(cy);
      column -= static_cast<float>(column) > cx;
      row -= static_cast<float>(row) > cy;
      const float fx = inside ? between(x, width, static_cast<float>(column)) : 0.0f;
      const float fy = inside ? between(y, height, static_cast<float>(row)) : 0.0f;
      cell[i] = inside ? first_[i] + row * pitch[i] + column : 0;
      const float a = (x != x) | (y != y) ? unknown : weight[i];
      const float above = a * (1.0f - fy), below = a * fy;
      lx[i] = fx;
      ly[i] = fy;
      share[0][i] = above * (1.0f - fx);
      share[1][i] = above * fx;
      share[2][i] = below * (1.0f - fx);
      share[3][i] = below * fx;
    }
  }

  __attribute__((noinline)) void place_cells(int64_t used) {
    split_pairs(used);
    constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
#pragma omp simd
    for (int64_t i = 0; i < used; ++i) {
      const float x = x_[i], y = y_[i], right = width_[i] - 1.0f, bottom = height_[i] - 1.0f;
      const float px = x * width_[i] + 0.5f, py = y * height_[i] + 0.5f;
      const bool known = (x == x) & (y == y);
      const float least_x = px > 0.0f ? px : 0.0f, least_y = py > 0.0f ? py : 0.0f;
      const int32_t column = static_cast<int32_t>(least_x < right ? least_x : right);
      const int32_t row = static_cast<int32_t>(least_y < bottom ? least_y : bottom);
      cell[i] = known ? first_[i] + row * pitch[i] + column : 0;
      lx[i] = ly[i] = 0.0f;
      share[0][i] = known ? weight[i] : unknown;
    }
  }

  const MsDeformAttnParams& params_;
  int64_t count_, capacity_;
  AlignedVector<int32_t> first_;
  AlignedVector<float> width_, height_, x_, y_, pairs_;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
