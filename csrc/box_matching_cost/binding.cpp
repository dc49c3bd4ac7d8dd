// torch.ops.maskformer_ext.box_matching_cost: schema, checks of values and threads, on the CPU.
#include "box_matching_cost/call.h"
#include "common/aligned.h"

namespace maskformer_ext {
namespace {

// The working memory of one thread.
struct BoxMatchingCostStorage {
  baseline::AlignedVector<float> floats;
  BoxMatchingCostScratch scratch;

  BoxMatchingCostStorage(int64_t targets_in, int64_t classes_in) {
    constexpr int64_t lanes = BoxMatchingCostScratch::lanes;
    const int64_t targets = (targets_in + lanes - 1) / lanes * lanes,
                  classes = (classes_in + lanes - 1) / lanes * lanes;
    floats.resize(6 * targets + classes);
    scratch.target_boxes = floats.data();
    scratch.logits = scratch.target_boxes + 4 * targets;
    scratch.costs = scratch.logits + targets;
    scratch.row = scratch.costs + targets;
  }
};

void check_values(const BoxMatchingCostParams& p, const char* op) {
  for (int64_t b = 0; b < p.images; ++b) {
    STD_TORCH_CHECK(p.num_segments[b] >= 0 && p.num_segments[b] <= p.targets, op,
                    ": num_segments must lie in [0, T] with T = ", p.targets, ", got ", p.num_segments[b], " in image ",
                    b);
    for (int64_t t = 0; t < p.num_segments[b]; ++t) {
      const int64_t label = p.labels[b * p.targets + t];
      STD_TORCH_CHECK(label >= 0 && label < p.classes, op, ": labels must lie in [0, C) with C = ", p.classes, ", got ",
                      label, " for object ", t, " of image ", b);
    }
  }
}

Tensor box_matching_cost_cpu(const Tensor& logits, const Tensor& boxes, const Tensor& target_boxes,
                             const Tensor& labels, const Tensor& num_segments, double class_weight, double box_weight,
                             double giou_weight, bool softmax, double alpha, double gamma) {
  const BoxCostCall call(logits, boxes, target_boxes, labels, num_segments,
                         {class_weight, box_weight, giou_weight, softmax, alpha, gamma});
  const BoxMatchingCostParams& params = call.params;
  check_values(params, call.op);
  if (call.cost.numel() == 0) return call.cost;
  // Below about 20 microseconds of work a second thread costs more than it saves.
  const int64_t grain = 1 + 8192 / (1 + params.targets + (softmax ? params.classes / 2 : 0));
  torch::stable::parallel_for(0, params.rows, grain, [&](int64_t begin, int64_t end) {
    const BoxMatchingCostStorage thread(params.targets, params.classes);
    box_matching_cost_fwd(params, thread.scratch, begin, end);
  });
  return call.cost;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "box_matching_cost(Tensor logits, Tensor boxes, Tensor target_boxes, Tensor labels, Tensor num_segments, "
      "float class_weight, float box_weight, float giou_weight, bool softmax, float alpha, float gamma) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("box_matching_cost", TORCH_BOX(&box_matching_cost_cpu));
}

}  // namespace
}  // namespace maskformer_ext
