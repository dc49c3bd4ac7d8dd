// torch.ops.maskformer_ext.attention_mask: schema, allocation and threads, on the CPU. The kernel of mask_dot
// multiplies features that have the size already.
#include "attention_mask/attention_mask.h"
#include "attention_mask/call.h"
#include "common/resize_taps.h"
#include "mask_dot/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "attention_mask";

// Features with the columns of a row side by side.
Tensor rows_side_by_side(const Tensor& features) {
  return features.dim() == 4 && features.size(3) > 1 && features.stride(3) != 1 ? torch::stable::contiguous(features)
                                                                                : features;
}

// Multiplies features that are resized on the way.
void run_resized(const DotTensors& dot, const Tensor& features, int64_t height, int64_t width, uint8_t* mask) {
  AttentionMaskParams params = {.source = dot.source,
                                .row_stride = features.stride(2),
                                .in_height = features.size(2),
                                .in_width = features.size(3),
                                .out_height = height,
                                .out_width = width,
                                .lower = nullptr,
                                .upper = nullptr,
                                .upper_weight = nullptr,
                                .mask = mask};
  params.source.features = features.const_data_ptr();
  params.source.image_stride = features.stride(0);
  params.source.channel_stride = features.stride(1);
  params.source.pixels = height * width;
  std::vector<int32_t> columns(2 * width);
  std::vector<float> weight(width);
  for (int64_t x = 0; x < width; ++x) {
    const ResizeTap tap = baseline::resize_tap(x, params.in_width, width);
    columns[x] = static_cast<int32_t>(tap.lower);
    columns[width + x] = static_cast<int32_t>(tap.upper);
    weight[x] = tap.weight;
  }
  params.lower = columns.data();
  params.upper = params.lower + width;
  params.upper_weight = weight.data();
  torch::stable::parallel_for(0, params.source.images * params.source.row_blocks(), 16,
                              [&](int64_t begin, int64_t end) { attention_mask_pack(params.source, begin, end); });
  torch::stable::parallel_for(0, params.source.images * params.panels(), 1, [&](int64_t begin, int64_t end) {
    baseline::AlignedVector<float> panel(dot.panel_floats()), row(params.in_width);
    attention_mask_fwd(params, panel.data(), row.data(), begin, end);
  });
}

Tensor attention_mask_cpu(const Tensor& mask_embed, const Tensor& mask_features,
                          torch::headeronly::IntHeaderOnlyArrayRef size,
                          bool /* allow_tf32: products are float32 here */) {
  check_attention_mask(mask_embed, mask_features, size);
  const int64_t height = size[0], width = size[1];
  const bool same = mask_features.size(2) == height && mask_features.size(3) == width;
  const Tensor features = same ? mask_features : rows_side_by_side(mask_features);
  const DotTensors dot(op, mask_embed, features);
  Tensor mask =
      torch::stable::new_empty(mask_embed, {dot.source.images, dot.source.queries, height, width}, ScalarType::Bool);
  if (mask.numel() == 0) return mask;
  auto* flags = static_cast<uint8_t*>(mask.mutable_data_ptr());
  if (same) {
    run_mask_dot(dot, MaskDotActivation::not_negative, flags, DType::uint8);
  } else {
    run_resized(dot, features, height, width, flags);
  }
  const AttentionRows rows = {.mask = flags, .rows = dot.source.images * dot.source.queries, .pixels = height * width};
  torch::stable::parallel_for(0, rows.rows, 1 + (1 << 16) / rows.pixels,
                              [&](int64_t begin, int64_t end) { fill_empty_rows(rows, begin, end); });
  return mask;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "attention_mask(Tensor mask_embed, Tensor mask_features, SymInt[] size, bool allow_tf32=False) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("attention_mask", TORCH_BOX(&attention_mask_cpu));
}

}  // namespace
}  // namespace maskformer_ext
