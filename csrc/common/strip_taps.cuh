// Resized values of neighbouring rows in one column, on a GPU. Where a mask is enlarged, rows mostly share samples. A
// row then loads its lower two, and has its upper two from the row before.
#pragma once

#include "common/tap_table.cuh"

namespace maskformer_ext::cuda {

// Two taps per axis. All lanes of a warp have the same rows.
template <int kCount>
class StripTaps {
 public:
  static constexpr int kRows = kCount;

  StripTaps() = default;
  __device__ StripTaps(const AxisTaps* rows, int first, int last, AxisTaps column, int64_t row_stride)
      : StripTaps(rows, first, last, row_stride) {
    set_column(column);
  }
  // Rows beyond the last count as the last one.
  __device__ StripTaps(const AxisTaps* rows, int first, int last, int64_t row_stride)
      : rows_(rows), first_(first), last_(last), stride_(static_cast<int>(row_stride)) {
    int before = 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const AxisTaps row = rows[min(first + r, last)];
      const int upper = row.index[0] * stride_;
      lower_[r] = row.index[1] * stride_;
      row_weight_[r][0] = row.weight[0];
      row_weight_[r][1] = row.weight[1];
      if (r == 0) {
        upper_ = upper;
      } else {
        const bool stays = upper == before;
        shares_ |= stays ? 1u << r : 0u;
        shares_ |= !stays && upper != lower_[r - 1] ? kApart : 0u;
      }
      before = upper;
    }
    last_upper_ = before;
    keep_in_register(shares_);
  }

  __device__ void set_column(AxisTaps column) {
    for (int c = 0; c < 2; ++c) {
      column_[c] = column.index[c];
      column_weight_[c] = column.weight[c];
    }
  }

  // Offsets of the outermost rows of samples, and the outermost columns. Where the result is mirrored they fall.
  __device__ int first_row() const { return min(min(upper_, lower_[0]), min(last_upper_, lower_[kRows - 1])); }
  __device__ int last_row() const { return max(max(upper_, lower_[0]), max(last_upper_, lower_[kRows - 1])); }
  __device__ int first_column() const { return min(column_[0], column_[1]); }
  __device__ int last_column() const { return max(column_[0], column_[1]); }

  // The resized values of a plane whose samples go through `convert`. Sums are in the order of PixelTaps.
  template <class T, class Convert>
  __device__ __forceinline__ void values(const T* plane, float (&result)[kRows], const Convert& convert) const {
    float upper[2], lower[kRows][2];  // no branch between the loads, so that all are under way at once
#pragma unroll
    for (int c = 0; c < 2; ++c) upper[c] = sample(plane, upper_, c);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < 2; ++c) lower[r][c] = sample(plane, lower_[r], c);
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      upper[c] = convert(upper[c]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) lower[r][c] = convert(lower[r][c]);
    }
    if ((shares_ & kApart) == 0) {
      result[0] = blend(0, upper, lower[0]);
#pragma unroll
      for (int r = 1; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < 2; ++c) upper[c] = shares_ >> r & 1u ? upper[c] : lower[r - 1][c];
        result[r] = blend(r, upper, lower[r]);
      }
    } else {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < 2; ++c)
          upper[c] = convert(sample(plane, rows_[min(first_ + r, last_)].index[0] * stride_, c));
        result[r] = blend(r, upper, lower[r]);
      }
    }
  }

  template <class T>
  __device__ __forceinline__ void logits(const T* plane, float (&result)[kRows]) const {
    values(plane, result, [](float x) { return x; });
  }

 private:
  const AxisTaps* rows_;
  int first_, last_, stride_;
  int upper_, last_upper_, lower_[kRows];  // offsets of the rows of samples
  int column_[2];
  float row_weight_[kRows][2], column_weight_[2];
  static constexpr unsigned kApart = 1;  // some row has no samples of the row before: all load theirs
  unsigned shares_ = 0;  // bit r: row r has the upper samples of the row before, otherwise its lower ones

  template <class T>
  __device__ __forceinline__ float sample(const T* plane, int row, int c) const {
    return as_float(plane[static_cast<unsigned>(row + column_[c])]);  // without a sign, one instruction less
  }
  __device__ __forceinline__ float blend(int r, const float (&upper)[2], const float (&lower)[2]) const {
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float blended = row_weight_[r][0] * upper[c];
      blended += row_weight_[r][1] * lower[c];
      sum = c == 0 ? column_weight_[0] * blended : sum + column_weight_[c] * blended;
    }
    return sum;
  }
};

}  // namespace maskformer_ext::cuda
