// CUDA kernels of torch.ops.maskformer_ext.semantic_inference and semantic_scores: guard, workspace, launches.
#include <algorithm>

#include "common/mask_source_cuda.h"
#include "semantic_inference/binding.h"
#include "semantic_inference/semantic_inference_cuda.h"

namespace maskformer_ext {
namespace {

#ifdef MASKFORMER_EXT_CUDA_SHIM
constexpr int64_t band_elements = 4096;  // so that small tests need several bands
#else
constexpr int64_t band_elements = int64_t{8} << 20;  // 32 MB of scores at the network input
#endif

// Where the result goes: labels, or scores that are added to.
struct SemanticResult {
  int64_t* labels;
  float* scores;
  float weight;
};

// The tensors that the parameters point into, kept alive until everything is launched.
class SemanticCall {
 public:
  SemanticCall(const Tensor& probability, const Tensor& mask_logits, const Size& size,
               const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip)
      : cuda_(mask_logits),
        probability_(query_probability(semantic_op, probability, mask_logits)),
        source_(semantic_op, mask_logits, size, input_size, crop, flip, cuda_) {
    STD_TORCH_CHECK(mask_logits.size(0) < INT32_MAX / 2 && probability_.size(1) < INT32_MAX / 2, semantic_op,
                    ": there must be fewer than 2^30 queries and classes");
    params_.queries = static_cast<int>(mask_logits.size(0));
    params_.classes = static_cast<int>(probability_.size(1));
    params_.probability = probability_.const_data_ptr<float>();
    lists_ = torch::stable::new_empty(probability_, {params_.queries + 1}, ScalarType::Int);
    params_.kept = lists_.mutable_data_ptr<int32_t>();
    params_.query = params_.kept + 1;
    semantic_queries_cuda(params_, cuda_.stream);
  }

  void run(const SemanticResult& result, bool scores_first) {
    if (scores_first) {
      resize_scores(result);
    } else {
      read_from(source_.at_output());
      result.labels != nullptr ? write_labels(result) : add_scores(result);
    }
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  CudaScope cuda_;
  Tensor probability_, lists_;
  CudaMaskSource source_;
  SemanticCudaParams params_ = {};

  void read_from(CudaMasks masks) {
    masks.queries = params_.query;
    masks.kept = params_.kept;
    params_.masks = masks;
  }

  void write_labels(const SemanticResult& result) {
    const int classes = params_.classes, block = 16 * SemanticCudaParams::tiles_of_block(classes);
    params_.labels = result.labels;
    params_.steps = (params_.queries + SemanticCudaParams::kStep - 1) / SemanticCudaParams::kStep;
    params_.class_tiles = (classes + block - 1) / block * block / 16;
    const int64_t bytes = int64_t{params_.steps} * params_.class_tiles * 32 * 16;
    Tensor fragments = torch::stable::new_empty(probability_, {bytes}, ScalarType::Byte);
    params_.fragments = fragments.mutable_data_ptr();
    semantic_labels_cuda(params_, cuda_.stream);
  }

  void add_scores(const SemanticResult& result) {
    params_.scores = result.scores;
    params_.weight = result.weight;
    params_.accumulate = true;
    params_.rows = params_.masks.out_height;
    params_.columns = params_.masks.out_width;
    params_.class_stride = int64_t{params_.rows} * params_.columns;
    semantic_scores_cuda(params_, cuda_.stream);
  }

  // Scores of some rows of the network input at a time, then of the output rows that they are enough for.
  void resize_scores(const SemanticResult& result) {
    const CudaMasks output = source_.from_input_to_output();
    read_from(source_.at_input());
    const int height = output.height, width = output.width;  // the valid part of the network input
    const int64_t row_elements = std::max<int64_t>(1, int64_t{params_.classes} * width);
    // Two rows make an output row, where there are two.
    const int most_rows =
        static_cast<int>(std::min<int64_t>(std::max<int64_t>(2, band_elements / row_elements), height));
    Tensor band = torch::stable::new_empty(probability_, {row_elements * most_rows}, ScalarType::Float);
    params_.scores = band.mutable_data_ptr<float>();
    params_.weight = 1.0f;
    params_.accumulate = false;
    params_.columns = width;
    SemanticResizeCudaParams resize = {};
    resize.planes = params_.scores;
    resize.band_columns = width;
    resize.row_taps = output.rows;
    resize.column_taps = output.columns;
    resize.classes = params_.classes;
    resize.out_height = output.out_height;
    resize.out_width = output.out_width;
    resize.labels = result.labels;
    resize.scores = result.scores;
    resize.weight = result.weight;
    const auto last_row = [&](int y) { return MASKFORMER_EXT_VARIANT::resize_tap(y, height, output.out_height).upper; };
    for (int y = 0; y < output.out_height; y += resize.rows) {
      resize.first_row = y;
      params_.first_row = resize.band_row =
          static_cast<int>(MASKFORMER_EXT_VARIANT::resize_tap(y, height, output.out_height).lower);
      // As many output rows as the band has samples for; one always fits, for it needs two rows.
      resize.rows = 1;
      while (y + resize.rows < output.out_height && last_row(y + resize.rows) < resize.band_row + most_rows) {
        ++resize.rows;
      }
      const auto end = static_cast<int>(last_row(y + resize.rows - 1)) + 1;
      params_.rows = resize.band_rows = end - resize.band_row;
      params_.class_stride = int64_t{params_.rows} * width;
      semantic_scores_cuda(params_, cuda_.stream);
      semantic_resize_cuda(resize, cuda_.stream);
    }
  }
};

Tensor semantic_inference_on_gpu(const Tensor& probability, const Tensor& mask_logits, const Size& size,
                                 const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                                 bool scores_first) {
  SemanticCall call(probability, mask_logits, size, input_size, crop, flip);
  Tensor labels = torch::stable::new_empty(mask_logits, {size[0], size[1]}, ScalarType::Long);
  call.run({labels.mutable_data_ptr<int64_t>(), nullptr, 1.0f}, scores_first);
  return labels;
}

void semantic_scores_on_gpu(const Tensor& probability, const Tensor& mask_logits, Tensor out, const Size& size,
                            const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip,
                            bool scores_first, double weight) {
  check_scores(out, probability, size);
  SemanticCall call(probability, mask_logits, size, input_size, crop, flip);
  call.run({nullptr, out.mutable_data_ptr<float>(), static_cast<float>(weight)}, scores_first);
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("semantic_inference", TORCH_BOX(&semantic_inference_on_gpu));
  library.impl("semantic_scores", TORCH_BOX(&semantic_scores_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
