// torch.ops.maskformer_ext.mask_loss and mask_loss_backward: schemas, checks and allocation, on the CPU.
#include "mask_loss/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "mask_loss";

MaskLossOutputs mask_loss_cpu(const Tensor& mask_logits, const Tensor& targets_in, double alpha, double gamma,
                              bool with_grad) {
  check_dim(mask_logits, 3, op, "mask_logits");
  check_dim(targets_in, 3, op, "targets");
  STD_TORCH_CHECK(targets_in.size(0) == mask_logits.size(0), op,
                  ": targets must be (N, H, W) with N = ", mask_logits.size(0), ", got ", shape_string(targets_in));
  const Tensor logits = with_contiguous_rows(mask_logits);
  const Tensor targets = with_contiguous_rows(targets_in);
  MaskLossParams params = mask_loss_params(op, logits, targets.size(1), targets.size(2), alpha, gamma);
  params.targets = targets.const_data_ptr();
  params.target_dtype = kernel_dtype(targets, op, "targets");
  params.target_kind = params.target_dtype == DType::uint8 ? TargetKind::flags : TargetKind::values;
  params.target_plane_stride = targets.stride(0);
  params.target_row_stride = targets.stride(1);
  std::vector<int64_t> plane(params.masks);
  for (int64_t mask = 0; mask < params.masks; ++mask) plane[mask] = mask;
  params.plane = plane.data();
  return run_mask_loss(params, logits, with_grad);
}

Tensor mask_loss_backward_cpu(const Tensor& maps_in, const Tensor& coefficients_in,
                              const std::optional<Tensor>& grad_focal_in, const std::optional<Tensor>& grad_dice_in,
                              ScalarType dtype) {
  MaskLossGradCall call(op, maps_in, coefficients_in, grad_focal_in, grad_dice_in, dtype);
  torch::stable::parallel_for(0, call.masks, 1 + 65536 / (1 + call.params.pixels),
                              [&](int64_t begin, int64_t end) { mask_loss_bwd(call.params, begin, end); });
  return call.grad_logits;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "mask_loss(Tensor mask_logits, Tensor targets, float alpha, float gamma, bool with_grad) "
      "-> (Tensor focal, Tensor dice, Tensor maps, Tensor coefficients)");
  library.def(
      "mask_loss_backward(Tensor maps, Tensor coefficients, Tensor? grad_focal, Tensor? grad_dice, ScalarType dtype) "
      "-> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("mask_loss", TORCH_BOX(&mask_loss_cpu));
  library.impl("mask_loss_backward", TORCH_BOX(&mask_loss_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
