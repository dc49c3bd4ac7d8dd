// torch.ops.maskformer_ext.point_mask_loss and point_mask_loss_backward: schemas, checks and allocation, on the CPU.
#include "point_mask_loss/call.h"
#include "torch/target_planes.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_mask_loss";

// The kernels' parameters without results. They point into the call and into the planes.
PointMaskLossParams params_of(const PointMaskLossCall& call, const TargetPlanes& planes, bool nearest) {
  const Tensor &logits = call.pairs.logits, &targets = call.pairs.targets;
  PointMaskLossParams params = {};
  params.logits = logits.const_data_ptr();
  params.logits_dtype = floating_dtype(logits, op, "mask_logits");
  params.mask_stride = logits.stride(0);
  params.row_stride = logits.stride(1);
  params.masks = logits.size(0);
  params.height = logits.size(1);
  params.width = logits.size(2);
  params.targets = targets.const_data_ptr();
  if (call.pairs.is_map) {
    params.target_kind = call.pairs.is_int16() ? TargetKind::map_i16 : TargetKind::map_i32;
  } else {
    params.target_dtype = call.target_dtype(op);
    params.target_kind = params.target_dtype == DType::uint8 ? TargetKind::flags : TargetKind::values;
  }
  params.target_row_stride = targets.stride(targets.dim() - 2);
  params.target_height = call.pairs.target_height();
  params.target_width = call.pairs.target_width();
  params.plane = planes.plane.data();
  params.segment = planes.segment.data();
  params.points = call.points.const_data_ptr<float>();
  params.num_points = call.points.size(1);
  params.nearest = nearest;
  return params;
}

TargetPlanes planes_of(const PointMaskLossCall& call) {
  return target_planes(op, call.pairs.targets, call.pairs.num_segments.const_data_ptr<int64_t>(),
                       call.pairs.image_index.const_data_ptr<int64_t>(),
                       call.pairs.segment_index.const_data_ptr<int64_t>(), call.pairs.masks());
}

PointMaskLossOutputs point_mask_loss_cpu(const Tensor& mask_logits, const Tensor& targets, const Tensor& num_segments,
                                         const Tensor& image_index, const Tensor& segment_index, const Tensor& points,
                                         bool nearest) {
  const PointMaskLossCall call(op, {mask_logits, targets, num_segments, image_index, segment_index, points});
  const TargetPlanes planes = planes_of(call);
  if (call.pairs.is_map) {
    check_segment_map(op, call.pairs.targets, call.pairs.num_segments.const_data_ptr<int64_t>());
  }
  const PointMaskLossOutputs outputs = call.outputs();
  if (call.is_empty()) return outputs;
  PointMaskLossParams params = params_of(call, planes, nearest);
  params.cross_entropy = std::get<0>(outputs).mutable_data_ptr<float>();
  params.dice = std::get<1>(outputs).mutable_data_ptr<float>();
  params.coefficients = std::get<2>(outputs).mutable_data_ptr<float>();
  torch::stable::parallel_for(0, params.masks, 1,
                              [&](int64_t begin, int64_t end) { point_mask_loss_fwd(params, begin, end); });
  return outputs;
}

Tensor point_mask_loss_backward_cpu(const Tensor& mask_logits, const Tensor& targets, const Tensor& num_segments,
                                    const Tensor& image_index, const Tensor& segment_index, const Tensor& points,
                                    bool nearest, const Tensor& coefficients,
                                    const std::optional<Tensor>& grad_cross_entropy,
                                    const std::optional<Tensor>& grad_dice) {
  const PointMaskLossCall call(op, {mask_logits, targets, num_segments, image_index, segment_index, points});
  const PointMaskLossGrads grads(op, call.pairs.masks(), coefficients, grad_cross_entropy, grad_dice);
  const TargetPlanes planes = planes_of(call);
  Tensor grad_logits = call.grad_logits();
  if (call.is_empty()) return grad_logits;
  const PointMaskLossGradParams params = {
      .forward = params_of(call, planes, nearest),
      .coefficients = grads.coefficients.const_data_ptr<float>(),
      .grad_cross_entropy = grads.of_cross_entropy(),
      .grad_dice = grads.of_dice(),
      .grad_logits = grad_logits.mutable_data_ptr(),
  };
  torch::stable::parallel_for(0, call.pairs.masks(), 1,
                              [&](int64_t begin, int64_t end) { point_mask_loss_bwd(params, begin, end); });
  return grad_logits;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "point_mask_loss(Tensor mask_logits, Tensor targets, Tensor num_segments, Tensor image_index, "
      "Tensor segment_index, Tensor points, bool nearest) -> (Tensor cross_entropy, Tensor dice, Tensor coefficients)");
  library.def(
      "point_mask_loss_backward(Tensor mask_logits, Tensor targets, Tensor num_segments, Tensor image_index, "
      "Tensor segment_index, Tensor points, bool nearest, Tensor coefficients, Tensor? grad_cross_entropy, "
      "Tensor? grad_dice) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("point_mask_loss", TORCH_BOX(&point_mask_loss_cpu));
  library.impl("point_mask_loss_backward", TORCH_BOX(&point_mask_loss_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
