// CUDA kernels of torch.ops.maskformer_ext.semantic_inference and semantic_scores: guard, workspace, launches.
#include "semantic_inference/call.h"
#include "semantic_inference/call_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "semantic_inference";

Tensor semantic_inference_on_gpu(const Tensor& probability, const Tensor& mask_logits, const Size& size,
                                 const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                                 bool scores_first) {
  SemanticCall call(op, probability, mask_logits, size, input_size, crop, flip);
  Tensor labels = torch::stable::new_empty(mask_logits, {size[0], size[1]}, ScalarType::Long);
  call.run({labels.mutable_data_ptr<int64_t>(), nullptr, 1.0f}, scores_first);
  return labels;
}

void semantic_scores_on_gpu(const Tensor& probability, const Tensor& mask_logits, Tensor out, const Size& size,
                            const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                            bool scores_first, double weight) {
  check_scores(out, probability, size);
  SemanticCall call(op, probability, mask_logits, size, input_size, crop, flip);
  call.run({nullptr, out.mutable_data_ptr<float>(), static_cast<float>(weight)}, scores_first);
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("semantic_inference", TORCH_BOX(&semantic_inference_on_gpu));
  library.impl("semantic_scores", TORCH_BOX(&semantic_scores_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
