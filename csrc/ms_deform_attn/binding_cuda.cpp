// CUDA kernels of torch.ops.maskformer_ext.ms_deform_attn and its backward: guard, allocation, launch.
#include <tuple>

#include "ms_deform_attn/call.h"
#include "ms_deform_attn/ms_deform_attn_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

MsDeformAttnCudaParams cuda_params(const MsDeformAttnCall& call) {
  MsDeformAttnCudaParams params = {};
  params.op = call.params;
  STD_TORCH_CHECK(call.params.levels <= params.kMostLevels, call.op, ": spatial_shapes must have at most ",
                  params.kMostLevels, " levels, got ", call.params.levels);
  STD_TORCH_CHECK(call.params.cells < INT32_MAX && call.params.total_points < INT32_MAX / 2, call.op,
                  ": there must be fewer than 2^31 cells and 2^30 points per query, got ", call.params.cells, " and ",
                  call.params.total_points);
  params.value_elements = call.params.images * call.params.cells * call.params.heads * call.params.channels;
  params.items = call.params.images * call.params.queries * call.params.heads;
  int64_t cell = 0, point = 0;
  for (int64_t level = 0; level < call.params.levels; ++level) {
    const int64_t height = call.sizes[2 * level], width = call.sizes[2 * level + 1];
    params.levels[level] = {static_cast<int>(height), static_cast<int>(width), static_cast<int>(cell),
                            static_cast<int>(point)};
    cell += height * width;
    point += call.points[level];
  }
  return params;
}

Tensor ms_deform_attn_on_gpu(const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
                             const Tensor& weights, const std::vector<int64_t>& points_per_level, bool discrete) {
  const CudaScope cuda(value);
  MsDeformAttnCall call(value, spatial_shapes, locations, weights, points_per_level, discrete);
  Tensor out = call.new_out();
  if (call.empty()) return out;
  ms_deform_attn_fwd_cuda(cuda_params(call), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_on_gpu(const Tensor& grad, const Tensor& value,
                                                                  const std::vector<int64_t>& spatial_shapes,
                                                                  const Tensor& locations, const Tensor& weights,
                                                                  const std::vector<int64_t>& points_per_level,
                                                                  bool discrete, bool to_value, bool to_points) {
  const CudaScope cuda(value);
  MsDeformAttnCall call(value, spatial_shapes, locations, weights, points_per_level, discrete);
  call.with_grad(grad, to_value, to_points);
  if (call.empty_backward(to_value, to_points)) {
    call.zero_gradients();
    return {call.grad_value, call.grad_locations, call.grad_weights};
  }
  MsDeformAttnCudaParams params = cuda_params(call);
  params.to_points = to_points;
  const auto zeros = [&](int64_t count, ScalarType dtype) {
    Tensor tensor = torch::stable::new_empty(call.value, {count}, dtype);
    torch::stable::zero_(tensor);
    return tensor;
  };
  const int64_t elements = to_value ? params.value_elements : 0;
  Tensor sums = zeros(elements, ScalarType::Long), not_finite = zeros((elements + 31) / 32, ScalarType::Int);
  Tensor largest = zeros(2 * call.params.units(), ScalarType::Int);
  if (to_value) {
    params.sums = static_cast<unsigned long long*>(sums.mutable_data_ptr());
    params.not_finite = static_cast<unsigned*>(not_finite.mutable_data_ptr());
    params.largest = static_cast<unsigned*>(largest.mutable_data_ptr());
  }
  ms_deform_attn_bwd_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {call.grad_value, call.grad_locations, call.grad_weights};
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn_on_gpu));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
