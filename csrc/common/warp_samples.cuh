// Leaves out masks that are small at all of a warp's pixels. Resizing takes convex combinations, so no resized value
// exceeds the largest sample under it.
#pragma once

#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/tap_table.cuh"

namespace maskformer_ext::cuda {

// The samples under the pixels of a warp, at most two per lane. A vote of the lanes finds out whether any of them is
// large.
class WarpSamples {
 public:
  WarpSamples() = default;
  // The lanes' pixels lie side by side in the same rows. Arguments are the offsets of the first and the last row of
  // samples, and the lane's own first and last column. All lanes call it.
  __device__ WarpSamples(int first_row, int last_row, int own_first_column, int own_last_column, int64_t row_stride)
      : WarpSamples(of_rows(first_row, rows_between(first_row, last_row, row_stride), own_first_column, own_last_column,
                            row_stride)) {}
  // The same, from how many rows of samples there are.
  static __device__ WarpSamples of_rows(int first_row, int rows, int own_first_column, int own_last_column,
                                        int64_t row_stride) {
    WarpSamples result;
    // Columns of samples rise with those of pixels, or fall where mirrored. The outermost lanes have the outermost
    // ones.
    const int first_column =
        min(__shfl_sync(kAllLanes, own_first_column, 0), __shfl_sync(kAllLanes, own_first_column, 31));
    const int last_column =
        max(__shfl_sync(kAllLanes, own_last_column, 0), __shfl_sync(kAllLanes, own_last_column, 31));
    const int stride = static_cast<int>(row_stride), columns = last_column - first_column + 1;
    const bool few = columns <= 64 && rows <= 64 && rows * columns <= 64;
    const float row_of = reciprocal_approximate(static_cast<float>(columns));
    for (int i = 0; i < 2; ++i) {
      const int sample = min(static_cast<int>(threadIdx.x % 32) + 32 * i, rows * columns - 1);
      // Numbers below 64 are divided right in float: half a sample is more than any rounding.
      const int row = static_cast<int>((static_cast<float>(sample) + 0.5f) * row_of);
      const int offset = first_row + row * stride + first_column + sample - row * columns;
      result.offset_[i] = few ? static_cast<unsigned>(offset) : kMany;
    }
    return result;
  }
  static __device__ int rows_between(int first_row, int last_row, int64_t row_stride) {
    const int stride = static_cast<int>(row_stride);
    return stride > 0 ? (last_row - first_row) / stride + 1 : 1;
  }

  // The largest bound of the lanes is no smaller than any value at the warp's pixels, rounding included. It is infinite
  // where too many samples would have to be read.
  template <class T>
  __device__ __forceinline__ float bound(const T* plane) const {
    if (offset_[0] == kMany) return INFINITY;
    const float most = fmaxf(as_float(plane[offset_[0]]), as_float(plane[offset_[1]]));
    return most + 1e-5f * fabsf(most);
  }

 private:
  static constexpr unsigned kMany = ~0u;
  unsigned offset_[2];  // without a sign, an address takes an instruction less
};

}  // namespace maskformer_ext::cuda
