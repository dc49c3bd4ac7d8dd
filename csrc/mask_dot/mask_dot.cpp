// CPU kernel of mask_dot: panels of pixels in parallel, each multiplied with every query.
#include "mask_dot/mask_dot.h"

#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

template <class T>
void store_row(const float* __restrict logits, int64_t count, MaskDotActivation activation, T* __restrict to) {
  if (activation == MaskDotActivation::none) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = from_float<T>(logits[i]);
  } else if (activation == MaskDotActivation::sigmoid) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = from_float<T>(sigmoid(logits[i]));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = from_float<T>(logits[i] > 0.0f ? 1.0f : 0.0f);
  }
}

void store_flags(const float* __restrict logits, int64_t count, MaskDotActivation activation, uint8_t* __restrict to) {
  if (activation == MaskDotActivation::not_negative) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = logits[i] < 0.0f ? 0 : 1;
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = logits[i] > 0.0f ? 1 : 0;
}

void multiply_panel(const MaskDotParams& p, int64_t image, int64_t first, int64_t count, const float* panel) {
  const DotSource& source = p.source;
  alignas(64) float block[kDotRows * kPanelColumns];
  const float* embed = source.packed + image * source.row_blocks() * source.channels * kDotRows;
  for (int64_t row = 0; row < source.rows(); row += kDotRows) {
    dot_block(embed + row * source.channels, panel, source.channels, count, block);
    for (int64_t r = 0; r < std::min(kDotRows, source.rows() - row); ++r) {
      const int64_t layer = (row + r) / source.queries, query = (row + r) % source.queries;
      const int64_t offset = ((layer * source.images + image) * source.queries + query) * source.pixels + first;
      const float* logits = block + r * kPanelColumns;
      if (p.out_dtype == DType::uint8) {
        store_flags(logits, count, p.activation, static_cast<uint8_t*>(p.out) + offset);
        continue;
      }
      for_float_type(p.out_dtype, [&](auto type) {
        store_row(logits, count, p.activation, static_cast<decltype(type)*>(p.out) + offset);
      });
    }
  }
}

}  // namespace

void mask_dot_pack(const DotSource& source, int64_t begin, int64_t end) { pack_embed_blocks(source, begin, end); }

void mask_dot_fwd(const MaskDotParams& params, float* panel, int64_t begin, int64_t end) {
  const int64_t panels = params.panels();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / panels, first = item % panels * kPanelColumns;
    const int64_t count = std::min(kPanelColumns, params.source.pixels - first);
    const PanelRun run = {.pixel = first, .column = 0, .length = count};
    const PanelRun gap = {.pixel = -1, .column = count, .length = kPanelColumns - count};
    pack_panel(params.source, image, &run, 1, &gap, 1, panel);
    multiply_panel(params, image, first, count, panel);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
