// torch.ops.maskformer_ext.mask_dot: schema, checks and allocation, on the CPU.
#include "mask_dot/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "mask_dot";

void multiply(const Tensor& mask_embed, const Tensor& mask_features, Tensor& out, int64_t activation) {
  const DotTensors dot(op, mask_embed, mask_features);
  const DType out_dtype = kernel_dtype(out, op, "out");
  const int64_t rows = dot.source.images * dot.source.rows();
  STD_TORCH_CHECK(out.is_contiguous() && out.numel() == rows * dot.source.pixels, op,
                  ": out must be contiguous (..., B, Q, h, w), got ", shape_string(out));
  STD_TORCH_CHECK(activation >= 0 && activation <= 2, op, ": activation must be 0, 1 or 2, got ", activation);
  const auto kind = static_cast<MaskDotActivation>(activation);
  STD_TORCH_CHECK(out_dtype != DType::uint8 || kind == MaskDotActivation::binary, op,
                  ": out must be floating unless the activation is binary");
  if (out.numel() > 0) run_mask_dot(dot, kind, out.mutable_data_ptr(), out_dtype);
}

Tensor mask_dot_cpu(const Tensor& mask_embed, const Tensor& mask_features, int64_t activation, ScalarType dtype,
                    bool /* allow_tf32: products are float32 here */) {
  check_dim(mask_features, 4, op, "mask_features");
  std::vector<int64_t> shape(mask_embed.sizes().begin(), mask_embed.sizes().end());
  shape.back() = mask_features.size(2);
  shape.push_back(mask_features.size(3));
  Tensor out = torch::stable::new_empty(mask_embed, shape, dtype);
  multiply(mask_embed, mask_features, out, activation);
  return out;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "mask_dot(Tensor mask_embed, Tensor mask_features, int activation, ScalarType dtype, bool allow_tf32=False) "
      "-> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) { library.impl("mask_dot", TORCH_BOX(&mask_dot_cpu)); }

}  // namespace
}  // namespace maskformer_ext
