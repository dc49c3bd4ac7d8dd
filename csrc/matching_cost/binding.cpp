// torch.ops.maskformer_ext.matching_cost: schema, checks and allocation, on the CPU.
#include <optional>

#include "matching_cost/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost";

Tensor matching_cost_cpu(const Tensor& class_logits_in, const Tensor& mask_logits_in, const Tensor& pixels,
                         const Tensor& labels, const Tensor& num_segments, const std::optional<Tensor>& void_pixels,
                         double class_weight, double focal_weight, double dice_weight, double alpha, double gamma,
                         bool ignore_void) {
  const Tensor class_logits = torch::stable::contiguous(class_logits_in);
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  for (int64_t i = 0; i < dim - 2; ++i) {
    STD_TORCH_CHECK(class_logits.size(i) == mask_logits.size(i), op, ": class_logits must begin as mask_logits, got ",
                    shape_string(class_logits), " and ", shape_string(mask_logits));
  }
  const int64_t height = mask_logits.size(dim - 2), width = mask_logits.size(dim - 1), num_pixels = height * width;
  const PreparedBatch batch(op, pixels, labels, num_segments, void_pixels, ignore_void, mask_logits.size(dim - 4),
                            class_logits.size(dim - 2) - 1, height, width);
  Tensor cost = batch.new_cost(class_logits);
  MatchingCostParams params =
      batch.params(op, class_logits, {class_weight, focal_weight, dice_weight, alpha, gamma}, cost);
  params.queries = mask_logits.size(dim - 3);
  params.mask_logits = mask_logits.const_data_ptr();
  params.mask_dtype = floating_dtype(mask_logits, op, "mask_logits");
  int64_t rows = 1;
  for (int64_t i = 0; i < dim - 2; ++i) rows *= mask_logits.size(i);
  if (cost.numel() == 0) return cost;
  // Below about 20 microseconds of work a second thread costs more than it saves.
  const int64_t grain = 1 + 16384 / (1 + num_pixels);
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const MatchingCostStorage thread(num_pixels, batch.places(), batch.groups(), params.classes, params.segments);
    matching_cost_fwd(params, thread.scratch, begin, end);
  });
  return cost;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "matching_cost(Tensor class_logits, Tensor mask_logits, Tensor pixels, Tensor labels, Tensor num_segments, "
      "Tensor? "
      "void, float class_weight, float focal_weight, float dice_weight, float alpha, float gamma, bool ignore_void) -> "
      "Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("matching_cost", TORCH_BOX(&matching_cost_cpu));
}

}  // namespace
}  // namespace maskformer_ext
