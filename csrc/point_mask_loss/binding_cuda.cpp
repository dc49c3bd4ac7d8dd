// CUDA kernels of torch.ops.maskformer_ext.point_mask_loss and point_mask_loss_backward: guard, workspace, launch.
//
// Indices and ids live on the device. An index out of range is no pair, and an id out of range is void. Nothing is read
// for them.
#include "point_mask_loss/call.h"
#include "point_mask_loss/point_mask_loss_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_mask_loss";

// The kernels' parameters without workspace and results. They point into the call.
PointMaskLossCudaParams params_of(const PointMaskLossCall& call, bool nearest) {
  const Tensor &logits = call.pairs.logits, &targets = call.pairs.targets;
  PointMaskLossCudaParams params = {};
  params.logits = logits.const_data_ptr();
  params.logits_dtype = floating_dtype(logits, op, "mask_logits");
  params.mask_stride = logits.stride(0);
  params.row_stride = logits.stride(1);
  params.masks = logits.size(0);
  params.height = logits.size(1);
  params.width = logits.size(2);
  params.targets = targets.const_data_ptr();
  params.is_map = call.pairs.is_map;
  params.wide = params.is_map && !call.pairs.is_int16();
  if (!params.is_map) params.target_dtype = call.target_dtype(op);
  params.target_image_stride = targets.stride(0);
  params.target_plane_stride = params.is_map ? 0 : targets.stride(1);
  params.target_row_stride = targets.stride(targets.dim() - 2);
  params.target_height = call.pairs.target_height();
  params.target_width = call.pairs.target_width();
  params.images = call.pairs.images();
  params.segments = params.is_map ? 0 : targets.size(1);
  params.image_index = call.pairs.image_index.const_data_ptr<int64_t>();
  params.segment_index = call.pairs.segment_index.const_data_ptr<int64_t>();
  params.num_segments = call.pairs.num_segments.const_data_ptr<int64_t>();
  params.points = call.points.const_data_ptr<float>();
  params.num_points = call.points.size(1);
  params.nearest = nearest;
  STD_TORCH_CHECK(params.masks == 0 || params.blocks() < INT32_MAX / params.masks, op,
                  ": there must be fewer than 2^31 blocks of points, got ", params.masks, " masks of ",
                  params.num_points, " points");
  return params;
}

PointMaskLossOutputs point_mask_loss_on_gpu(const Tensor& mask_logits, const Tensor& targets,
                                            const Tensor& num_segments, const Tensor& image_index,
                                            const Tensor& segment_index, const Tensor& points, bool nearest) {
  const CudaScope cuda(mask_logits);
  const PointMaskLossCall call(op, {mask_logits, targets, num_segments, image_index, segment_index, points});
  const PointMaskLossOutputs outputs = call.outputs();
  if (call.is_empty()) return outputs;
  PointMaskLossCudaParams params = params_of(call, nearest);
  Tensor sums =
      torch::stable::new_empty(call.points, {params.masks * params.blocks() * kPointSums}, ScalarType::Double);
  params.sums = sums.mutable_data_ptr<double>();
  params.cross_entropy = std::get<0>(outputs).mutable_data_ptr<float>();
  params.dice = std::get<1>(outputs).mutable_data_ptr<float>();
  params.coefficients = std::get<2>(outputs).mutable_data_ptr<float>();
  point_mask_loss_fwd_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return outputs;
}

Tensor point_mask_loss_backward_on_gpu(const Tensor& mask_logits, const Tensor& targets, const Tensor& num_segments,
                                       const Tensor& image_index, const Tensor& segment_index, const Tensor& points,
                                       bool nearest, const Tensor& coefficients,
                                       const std::optional<Tensor>& grad_cross_entropy,
                                       const std::optional<Tensor>& grad_dice) {
  const CudaScope cuda(mask_logits);
  const PointMaskLossCall call(op, {mask_logits, targets, num_segments, image_index, segment_index, points});
  const PointMaskLossGrads grads(op, call.pairs.masks(), coefficients, grad_cross_entropy, grad_dice);
  Tensor grad_logits = call.grad_logits();
  if (call.is_empty()) return grad_logits;
  const PointMaskLossCudaParams forward = params_of(call, nearest);
  const int64_t masks = forward.masks, height = forward.height, width = forward.width;
  Tensor at_points = torch::stable::new_empty(call.points, {masks, forward.num_points});
  Tensor largest = torch::stable::new_zeros(call.points, {masks}, ScalarType::Int);
  Tensor multiples = torch::stable::new_zeros(call.points, {masks, height, width}, ScalarType::Long);
  Tensor not_finite = torch::stable::new_zeros(call.points, {(masks * height * width + 31) / 32}, ScalarType::Int);
  point_mask_loss_bwd_cuda(
      {
          .forward = forward,
          .coefficients = grads.coefficients.const_data_ptr<float>(),
          .grad_cross_entropy = grads.of_cross_entropy(),
          .grad_dice = grads.of_dice(),
          .at_points = at_points.mutable_data_ptr<float>(),
          .largest = largest.mutable_data_ptr<int32_t>(),
          .multiples = multiples.mutable_data_ptr<int64_t>(),
          .not_finite = static_cast<unsigned*>(not_finite.mutable_data_ptr()),
          .grad_logits = grad_logits.mutable_data_ptr(),
      },
      cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_logits;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("point_mask_loss", TORCH_BOX(&point_mask_loss_on_gpu));
  library.impl("point_mask_loss_backward", TORCH_BOX(&point_mask_loss_backward_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
