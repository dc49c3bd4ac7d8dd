// CUDA kernel of torch.ops.maskformer_ext.mask_dot: guard, allocation, launch.
#include <vector>

#include "mask_dot/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "mask_dot";

Tensor mask_dot_on_gpu(const Tensor& mask_embed, const Tensor& mask_features, int64_t activation, ScalarType dtype,
                       bool allow_tf32) {
  const CudaScope cuda(mask_embed);
  DotOperands operands(op, mask_embed, mask_features, allow_tf32);
  STD_TORCH_CHECK(activation >= 0 && activation <= 2, op, ": activation must be 0, 1 or 2, got ", activation);
  std::vector<int64_t> shape(mask_embed.sizes().begin(), mask_embed.sizes().end());
  shape.back() = mask_features.size(2);
  shape.push_back(mask_features.size(3));
  Tensor out = torch::stable::new_empty(mask_embed, shape, dtype);
  operands.params.activation = static_cast<MaskDotActivation>(activation);
  operands.params.out = out.mutable_data_ptr();
  operands.params.out_dtype = kernel_dtype(out, op, "out");
  STD_TORCH_CHECK(operands.params.out_dtype != DType::uint8 || operands.params.activation == MaskDotActivation::binary,
                  op, ": out must be floating unless the activation is binary");
  mask_dot_cuda(operands.params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("mask_dot", TORCH_BOX(&mask_dot_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
