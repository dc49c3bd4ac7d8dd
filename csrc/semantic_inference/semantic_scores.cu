// CUDA kernels of semantic scores: the product of class and mask probabilities in float32, and its resize.
#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/tap_table.cuh"
#include "semantic_inference/semantic_inference_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = SemanticCudaParams;
constexpr int kThreads = 256;
constexpr int kTileColumns = 32, kTileRows = 4;  // a block's pixels
constexpr int kTilePixels = kTileColumns * kTileRows;
constexpr int kPixels = kTilePixels / 16;  // of a thread
constexpr int kChunk = 32;                 // queries at once

// A thread has kPixels pixels times kClasses classes, a block 128 times 16 kClasses.
template <class Logit, int kTaps, int kClasses>  // sixteen taps beside eighty sums need the registers of two blocks
__global__ void __launch_bounds__(kThreads, kTaps == 4 && kClasses > 4 ? 1 : 2) semantic_scores_kernel(Params p) {
  MASKFORMER_EXT_SHARED(float, masks, kChunk* kTilePixels);
  MASKFORMER_EXT_SHARED(float, factors, kChunk * 16 * kClasses);
  const int kept = *p.kept;
  const int tiles = (p.columns + kTileColumns - 1) / kTileColumns;
  const int first_row = static_cast<int>(blockIdx.x) / tiles * kTileRows;
  const int first_column = static_cast<int>(blockIdx.x) % tiles * kTileColumns;
  const int first_class = static_cast<int>(blockIdx.y) * 16 * kClasses;
  const int filled = threadIdx.x % kTilePixels;
  const PixelTaps<kTaps> taps(p.masks.rows[p.first_row + min(first_row + filled / kTileColumns, p.rows - 1)],
                              p.masks.columns[min(first_column + filled % kTileColumns, p.columns - 1)],
                              p.masks.row_stride);
  const int own_pixel = threadIdx.x % 16, own_class = threadIdx.x / 16;  // and every 16th after them
  float sums[kClasses][kPixels] = {};
  for (int first = 0; first < kept; first += kChunk) {
    const int count = min(kChunk, kept - first);
    __syncthreads();  // the chunk before may still be read
    for (int q = threadIdx.x / kTilePixels; q < count; q += kThreads / kTilePixels) {
      masks[q * kTilePixels + filled] = fast_sigmoid_of_any(taps.logit(base_of(mask_plane<Logit>(p.masks, first + q))));
    }
    for (int i = threadIdx.x; i < count * 16 * kClasses; i += kThreads) {
      const int k = first_class + i % (16 * kClasses);
      const int64_t query = p.query[first + i / (16 * kClasses)];
      factors[i] = k < p.classes ? p.probability[query * p.classes + k] : 0.0f;
    }
    __syncthreads();
    for (int q = 0; q < count; ++q) {
      float mask[kPixels];
#pragma unroll
      for (int i = 0; i < kPixels; ++i) mask[i] = masks[q * kTilePixels + own_pixel + 16 * i];
#pragma unroll
      for (int j = 0; j < kClasses; ++j) {
        const float factor = factors[q * 16 * kClasses + own_class + 16 * j];
#pragma unroll
        for (int i = 0; i < kPixels; ++i) sums[j][i] += factor * mask[i];
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kClasses; ++j) {
    const int k = first_class + own_class + 16 * j;
    if (k >= p.classes) continue;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const int pixel = own_pixel + 16 * i;
      const int row = first_row + pixel / kTileColumns, column = first_column + pixel % kTileColumns;
      if (row >= p.rows || column >= p.columns) continue;
      float* to = p.scores + k * p.class_stride + int64_t{row} * p.columns + column;
      *to = p.accumulate ? *to + p.weight * sums[j][i] : p.weight * sums[j][i];
    }
  }
}

__global__ void __launch_bounds__(kThreads) semantic_resize_kernel(SemanticResizeCudaParams p) {
  const int64_t pixels = int64_t{p.rows} * p.out_width, plane = int64_t{p.band_rows} * p.band_columns;
  const int64_t number = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (number >= pixels) return;
  const int row = static_cast<int>(number / p.out_width), column = static_cast<int>(number % p.out_width);
  const int y = p.first_row + row;
  const PixelTaps<2> taps(p.row_taps[y], p.column_taps[column], p.band_columns);
  const float* band = p.planes - int64_t{p.band_row} * p.band_columns;
  const int64_t place = int64_t{y} * p.out_width + column, out_plane = int64_t{p.out_height} * p.out_width;
  float best = -1.0f;  // below every score
  int label = 0;
  for (int k = 0; k < p.classes; ++k) {
    const float score = taps.logit(band + k * plane);
    if (p.labels == nullptr) {
      p.scores[k * out_plane + place] += p.weight * score;
    } else if (score > best) {
      best = score;
      label = k;
    }
  }
  if (p.labels != nullptr) p.labels[place] = label;
}

}  // namespace
}  // namespace cuda

void semantic_scores_cuda(const SemanticCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int64_t rows = (params.rows + kTileRows - 1) / kTileRows;
  const int64_t tiles = rows * ((params.columns + kTileColumns - 1) / kTileColumns);
  if (tiles == 0 || params.classes == 0) return;
  for_cuda_float_type(params.masks.dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    for_taps(params.masks.taps, [&](auto taps) {
      constexpr int kTaps = decltype(taps)::value;
      const auto start = [&](auto kernel, int classes) {
        const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>((params.classes + classes - 1) / classes));
        launch(kernel, grid, kThreads, stream, params);
      };
      if (params.classes <= 32) {
        start(semantic_scores_kernel<Logit, kTaps, 2>, 32);
      } else {
        start(semantic_scores_kernel<Logit, kTaps, 10>, 160);
      }
    });
  });
}

void semantic_resize_cuda(const SemanticResizeCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int64_t pixels = int64_t{params.rows} * params.out_width;
  if (pixels == 0) return;
  launch(semantic_resize_kernel, static_cast<unsigned>((pixels + kThreads - 1) / kThreads), kThreads, stream, params);
}

}  // namespace maskformer_ext
