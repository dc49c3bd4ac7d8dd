// torch.ops.maskformer_ext.semantic_inference and semantic_scores: schemas, checks and allocation, on the CPU.
#include "semantic_inference/semantic_inference.h"

#include "semantic_inference/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "semantic_inference";

// Runs the kernel. `params` holds where the result goes.
void run(SemanticParams params, const Tensor& probability_in, const Tensor& mask_logits, const Size& size,
         const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip, bool scores_first) {
  const Tensor logits = with_contiguous_rows(mask_logits);
  const Tensor probability = query_probability(op, probability_in, mask_logits);
  params.masks = mask_source(op, logits, size, input_size, crop, flip);
  params.probability = probability.const_data_ptr<float>();
  params.classes = probability.size(1);
  params.scores_first = scores_first;
  // A query without any probability is never read. Those that are not finite have none.
  std::vector<int64_t> queries;
  for (int64_t q = 0; q < logits.size(0); ++q) {
    const float* row = params.probability + q * params.classes;
    bool counts = false;
    for (int64_t k = 0; k < params.classes; ++k) counts = counts || row[k] != 0.0f;
    if (counts) queries.push_back(q);
  }
  params.masks.queries = queries.data();
  params.masks.count = static_cast<int64_t>(queries.size());
  constexpr int64_t least_rows = 8;  // tables and packed probabilities are made once per thread
  torch::stable::parallel_for(0, params.masks.out_height, least_rows,
                              [&](int64_t begin, int64_t end) { semantic_rows(params, begin, end); });
}

Tensor semantic_inference_cpu(const Tensor& probability, const Tensor& mask_logits, const Size& size,
                              const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                              bool scores_first) {
  Tensor labels = torch::stable::new_empty(mask_logits, {size[0], size[1]}, ScalarType::Long);
  SemanticParams params = {};
  params.labels = labels.mutable_data_ptr<int64_t>();
  run(params, probability, mask_logits, size, input_size, crop, flip, scores_first);
  return labels;
}

void semantic_scores_cpu(const Tensor& probability, const Tensor& mask_logits, Tensor out, const Size& size,
                         const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                         bool scores_first, double weight) {
  check_scores(out, probability, size);
  SemanticParams params = {};
  params.scores = out.mutable_data_ptr<float>();
  params.weight = static_cast<float>(weight);
  run(params, probability, mask_logits, size, input_size, crop, flip, scores_first);
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "semantic_inference(Tensor probability, Tensor mask_logits, SymInt[] size, SymInt[]? input_size, "
      "SymInt[]? crop, bool flip, bool scores_first) -> Tensor");
  library.def(
      "semantic_scores(Tensor probability, Tensor mask_logits, Tensor(a!) out, SymInt[] size, SymInt[]? input_size, "
      "SymInt[]? crop, bool flip, bool scores_first, float weight) -> ()");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("semantic_inference", TORCH_BOX(&semantic_inference_cpu));
  library.impl("semantic_scores", TORCH_BOX(&semantic_scores_cpu));
}

}  // namespace
}  // namespace maskformer_ext
