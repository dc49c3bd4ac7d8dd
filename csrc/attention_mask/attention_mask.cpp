// CPU kernels of attention_mask: resized panels, their products, and what becomes of empty rows.
#include "attention_mask/attention_mask.h"

#include <cstring>

#include "common/resize_taps.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Blends two rows of features.
template <class T>
void blend_rows(const T* __restrict upper, const T* __restrict lower, float weight, int64_t n, float* __restrict to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = (1.0f - weight) * to_float(upper[i]) + weight * to_float(lower[i]);
}

// Fills columns [0, count) of a panel with resized features, from pixel `first` of the result on.
template <class T>
void resize_panel(const AttentionMaskParams& p, const T* features, int64_t first, int64_t count, float* row,
                  float* panel) {
  for (int64_t column = 0; column < count;) {
    const int64_t y = (first + column) / p.out_width, x = (first + column) % p.out_width;
    const int64_t length = std::min(count - column, p.out_width - x);
    const ResizeTap tap = resize_tap(y, p.in_height, p.out_height);
    const int32_t *lower = p.lower + x, *upper = p.upper + x;
    const float* weight = p.upper_weight + x;
    const int64_t begin = lower[0], end = upper[length - 1] + 1;
    for (int64_t c = 0; c < p.source.channels; ++c) {
      const T* plane = features + c * p.source.channel_stride;
      blend_rows(plane + tap.lower * p.row_stride + begin, plane + tap.upper * p.row_stride + begin, tap.weight,
                 end - begin, row + begin);
      float* __restrict to = panel + c * kPanelColumns + column;
#pragma omp simd
      for (int64_t i = 0; i < length; ++i) to[i] = (1.0f - weight[i]) * row[lower[i]] + weight[i] * row[upper[i]];
    }
    column += length;
  }
}

void multiply_panel(const AttentionMaskParams& p, int64_t image, int64_t first, int64_t count, const float* panel) {
  const DotSource& source = p.source;
  alignas(64) float block[kDotRows * kPanelColumns];
  const float* embed = source.packed + image * source.row_blocks() * source.channels * kDotRows;
  for (int64_t row = 0; row < source.queries; row += kDotRows) {
    dot_block(embed + row * source.channels, panel, source.channels, count, block);
    for (int64_t r = 0; r < std::min(kDotRows, source.queries - row); ++r) {
      const float* __restrict logits = block + r * kPanelColumns;
      uint8_t* __restrict to = p.mask + (image * source.queries + row + r) * source.pixels + first;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) to[i] = logits[i] < 0.0f ? 0 : 1;  // NaN attends
    }
  }
}

}  // namespace

void attention_mask_pack(const DotSource& source, int64_t begin, int64_t end) { pack_embed_blocks(source, begin, end); }

void attention_mask_fwd(const AttentionMaskParams& params, float* panel, float* row, int64_t begin, int64_t end) {
  const int64_t panels = params.panels();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / panels, first = item % panels * kPanelColumns;
    const int64_t count = std::min(kPanelColumns, params.source.pixels - first);
    for_float_type(params.source.features_dtype, [&](auto type) {
      const auto* features =
          static_cast<const decltype(type)*>(params.source.features) + image * params.source.image_stride;
      resize_panel(params, features, first, count, row, panel);
    });
    for (int64_t c = 0; c < params.source.channels; ++c)
      std::fill_n(panel + c * kPanelColumns + count, kPanelColumns - count, 0.0f);
    multiply_panel(params, image, first, count, panel);
  }
}

void fill_empty_rows(const AttentionRows& params, int64_t begin, int64_t end) {
  const auto pixels = static_cast<size_t>(params.pixels);
  for (int64_t row = begin; row < end; ++row) {
    uint8_t* mask = params.mask + row * params.pixels;
    if (std::memchr(mask, 1, pixels) == nullptr) std::memset(mask, 1, pixels);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
