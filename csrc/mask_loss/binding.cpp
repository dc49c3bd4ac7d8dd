// torch.ops.maskformer_ext.mask_loss and mask_loss_backward: schemas, checks, allocation, CPU.
#include "common/checks.h"
#include "mask_loss/run.h"

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
  check_dim(maps_in, 4, op, "maps");
  check_dtype(maps_in, ScalarType::Float, op, "maps");
  const int64_t masks = maps_in.size(0), height = maps_in.size(2), width = maps_in.size(3);
  const auto of_masks = [&](const Tensor& tensor, const char* name) {
    check_dtype(tensor, ScalarType::Float, op, name);
    STD_TORCH_CHECK(tensor.dim() > 0 && tensor.size(0) == masks, op, ": ", name, " must have N = ", masks,
                    " rows, got shape ", shape_string(tensor));
    return torch::stable::contiguous(tensor);
  };
  const Tensor maps = torch::stable::contiguous(maps_in);
  const Tensor coefficients = of_masks(coefficients_in, "coefficients");
  std::optional<Tensor> grad_focal, grad_dice;
  if (grad_focal_in) grad_focal = of_masks(*grad_focal_in, "grad_focal");
  if (grad_dice_in) grad_dice = of_masks(*grad_dice_in, "grad_dice");
  Tensor grad = torch::stable::new_empty(maps, {masks, height, width}, dtype);
  const MaskLossGradParams params = {
      .maps = maps.const_data_ptr<float>(),
      .coefficients = coefficients.const_data_ptr<float>(),
      .grad_focal = grad_focal ? grad_focal->const_data_ptr<float>() : nullptr,
      .grad_dice = grad_dice ? grad_dice->const_data_ptr<float>() : nullptr,
      .pixels = height * width,
      .dtype = floating_dtype(grad, op, "mask_logits"),
      .grad_logits = grad.mutable_data_ptr(),
  };
  torch::stable::parallel_for(0, masks, 1 + 65536 / (1 + params.pixels),
                              [&](int64_t begin, int64_t end) { mask_loss_bwd(params, begin, end); });
  return grad;
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
