// torch.ops.maskformer_ext.mask_dot and mask_dot_out: schema, checks, allocation, threads, CPU.
#include "common/dot_source.h"
#include "mask_dot/mask_dot.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "mask_dot";

void mask_dot_out_cpu(const Tensor& mask_embed, const Tensor& mask_features, Tensor out, int64_t activation) {
  DotTensors dot(op, mask_embed, mask_features);
  MaskDotParams params = {};
  params.source = dot.source;
  params.activation = static_cast<MaskDotActivation>(activation);
  params.out = out.mutable_data_ptr();
  params.out_dtype = kernel_dtype(out, op, "out");
  const int64_t rows = params.source.images * params.source.rows();
  STD_TORCH_CHECK(out.is_contiguous() && out.numel() == rows * params.source.pixels, op,
                  ": out must be contiguous (..., B, Q, h, w), got ", shape_string(out));
  STD_TORCH_CHECK(activation >= 0 && activation <= 2, op, ": activation must be 0, 1 or 2, got ", activation);
  STD_TORCH_CHECK(params.out_dtype != DType::uint8 || params.activation == MaskDotActivation::binary, op,
                  ": out must be floating unless the activation is binary");
  if (out.numel() == 0) return;
  const int64_t blocks = params.source.images * params.source.row_blocks();
  torch::stable::parallel_for(0, blocks, 16,
                              [&](int64_t begin, int64_t end) { mask_dot_pack(params.source, begin, end); });
  // A panel of fewer products than this takes less time than waking a thread.
  const int64_t products = kPanelColumns * (1 + params.source.rows() * params.source.channels);
  torch::stable::parallel_for(0, params.source.images * params.panels(), 1 + (int64_t{1} << 20) / products,
                              [&](int64_t begin, int64_t end) {
                                baseline::AlignedVector<float> panel(dot.panel_floats());
                                mask_dot_fwd(params, panel.data(), begin, end);
                              });
}

Tensor mask_dot_cpu(const Tensor& mask_embed, const Tensor& mask_features, int64_t activation, ScalarType dtype) {
  check_dim(mask_features, 4, op, "mask_features");
  std::vector<int64_t> shape(mask_embed.sizes().begin(), mask_embed.sizes().end());
  shape.back() = mask_features.size(2);
  shape.push_back(mask_features.size(3));
  Tensor out = torch::stable::new_empty(mask_embed, shape, dtype);
  mask_dot_out_cpu(mask_embed, mask_features, out, activation);
  return out;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("mask_dot(Tensor mask_embed, Tensor mask_features, int activation, ScalarType dtype) -> Tensor");
  library.def("mask_dot_out(Tensor mask_embed, Tensor mask_features, Tensor(a!) out, int activation) -> ()");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("mask_dot", TORCH_BOX(&mask_dot_cpu));
  library.impl("mask_dot_out", TORCH_BOX(&mask_dot_out_cpu));
}

}  // namespace
}  // namespace maskformer_ext
