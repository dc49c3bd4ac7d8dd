// torch.ops.maskformer_ext.point_matching_cost: schema, checks, allocation and threads, on the CPU.
#include "point_matching_cost/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_matching_cost";
constexpr int64_t kProblems = 8;  // layers and images whose points are in order at once

// The working memory of one thread.
struct Storage {
  baseline::AlignedVector<float> floats;
  baseline::AlignedVector<double> sums;
  PointMatchingCostScratch scratch;

  Storage(const PointMatchingCostParams& params, bool from_masks)
      : floats((params.pixels + 1) * kQueryBlock + params.cost.classes + 1),
        sums(point_sums_rows(from_masks, params.cost.segments) * kQueryBlock) {
    scratch.planes = floats.data();
    scratch.probability = scratch.planes + (params.pixels + 1) * kQueryBlock;
    scratch.sums = sums.data();
  }
};

Tensor point_matching_cost_cpu(const Tensor& class_logits, const Tensor& mask_logits_in, const Tensor& pixels,
                               const Tensor& labels, const Tensor& num_segments, const Tensor& points,
                               double class_weight, double mask_weight, double dice_weight, int64_t sampling) {
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  for (int64_t i = 0; i < dim - 2; ++i) {
    STD_TORCH_CHECK(class_logits.size(i) == mask_logits.size(i), op, ": class_logits must begin as mask_logits, got ",
                    shape_string(class_logits), " and ", shape_string(mask_logits));
  }
  PointBatch batch(op, class_logits, pixels, labels, num_segments, points, {class_weight, mask_weight, dice_weight},
                   sampling, mask_logits.size(dim - 2), mask_logits.size(dim - 1));
  if (batch.cost.numel() == 0) return batch.cost;
  const int64_t layers = batch.params.layers, images = batch.params.images;
  const int64_t at_once = std::clamp<int64_t>(kProblems / images, 1, layers);
  std::vector<OrderedPoints> ordered(at_once * images);
  std::vector<PointTargets> targets(at_once * images);
  PointMatchingCostParams params = {.cost = batch.params,
                                    .mask_logits = mask_logits.const_data_ptr(),
                                    .mask_dtype = floating_dtype(mask_logits, op, "mask_logits"),
                                    .pixels = mask_logits.size(dim - 2) * mask_logits.size(dim - 1),
                                    .targets = targets.data(),
                                    .first_layer = 0};
  for (int64_t first = 0; first < layers; first += at_once) {
    const int64_t problems = std::min(at_once, layers - first) * images;
    torch::stable::parallel_for(0, problems, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        batch.order(first + i / images, i % images, ordered[i]);
        targets[i] = ordered[i].view;
      }
    });
    params.first_layer = first;
    torch::stable::parallel_for(0, problems * params.blocks(), 1, [&](int64_t begin, int64_t end) {
      const Storage thread(params, batch.from_masks());
      point_matching_cost_fwd(params, thread.scratch, begin, end);
    });
  }
  return batch.cost;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "point_matching_cost(Tensor class_logits, Tensor mask_logits, Tensor pixels, Tensor labels, Tensor num_segments, "
      "Tensor points, float class_weight, float mask_weight, float dice_weight, int sampling) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("point_matching_cost", TORCH_BOX(&point_matching_cost_cpu));
}

}  // namespace
}  // namespace maskformer_ext
