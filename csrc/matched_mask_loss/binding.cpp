// torch.ops.maskformer_ext.matched_mask_loss: schema and checks, on the CPU. Kernels and backward are those of
// mask_loss.
#include "mask_loss/call.h"
#include "matched_mask_loss/call.h"
#include "torch/target_planes.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matched_mask_loss";

MaskLossOutputs matched_mask_loss_cpu(const Tensor& mask_logits, const Tensor& targets_in,
                                      const Tensor& num_segments_in, const std::optional<Tensor>& void_in,
                                      const Tensor& image_index_in, const Tensor& segment_index_in, double alpha,
                                      double gamma, bool ignore_void, bool with_grad) {
  const MatchedMaskLossCall call(
      op, {mask_logits, targets_in, num_segments_in, void_in, image_index_in, segment_index_in}, ignore_void);
  const Tensor &targets = call.targets, &num_segments = call.num_segments;
  MaskLossParams params = mask_loss_params(op, call.logits, call.target_height(), call.target_width(), alpha, gamma);

  const int64_t* counts = num_segments.const_data_ptr<int64_t>();
  // Planes are counted in units of one element, since images and segments may be strided differently.
  const TargetPlanes planes = target_planes(op, targets, counts, call.image_index.const_data_ptr<int64_t>(),
                                            call.segment_index.const_data_ptr<int64_t>(), call.masks());
  params.targets = targets.const_data_ptr();
  params.plane = planes.plane.data();
  params.segment = planes.segment.data();
  params.target_plane_stride = 1;
  params.target_row_stride = targets.stride(targets.dim() - 2);
  if (call.is_map) {
    params.target_kind = call.is_int16() ? TargetKind::map_i16 : TargetKind::map_i32;
    params.ignore_void = ignore_void;
    check_segment_map(op, targets, counts);
  } else {
    params.target_dtype = kernel_dtype(targets, op, "targets.masks");
    params.target_kind = params.target_dtype == DType::uint8 ? TargetKind::flags : TargetKind::values;
    params.void_pixels = call.void_data();
    params.void_plane = planes.image.data();
  }
  return run_mask_loss(params, call.logits, with_grad);
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "matched_mask_loss(Tensor mask_logits, Tensor targets, Tensor num_segments, Tensor? void, Tensor image_index, "
      "Tensor segment_index, float alpha, float gamma, bool ignore_void, bool with_grad) "
      "-> (Tensor focal, Tensor dice, Tensor maps, Tensor coefficients)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("matched_mask_loss", TORCH_BOX(&matched_mask_loss_cpu));
}

}  // namespace
}  // namespace maskformer_ext
