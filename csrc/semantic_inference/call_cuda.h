// A call of semantic inference on a GPU: tensors and workspace kept alive, the kernels' parameters, and the launches.
#pragma once

#include <algorithm>

#include "common/cuda_cache.h"
#include "semantic_inference/semantic_inference_cuda.h"
#include "torch/mask_source_cuda.h"

namespace maskformer_ext {

// Where the result goes: labels, or scores that are added to.
struct SemanticResult {
  int64_t* labels;
  float* scores;
  float weight;
};

// The tensors that the parameters point into, kept alive until everything is launched.
class SemanticCall {
 public:
  SemanticCall(const char* op, const Tensor& probability, const Tensor& mask_logits, const Size& size,
               const std::optional<Size>& input_size, const std::optional<Size>& crop, bool flip)
      : cuda_(mask_logits),
        probability_(query_probability(op, probability, mask_logits)),
        source_(op, mask_logits, size, input_size, crop, flip, cuda_) {
    STD_TORCH_CHECK(mask_logits.size(0) < INT32_MAX / 2 && probability_.size(1) < INT32_MAX / 2, op,
                    ": there must be fewer than 2^30 queries and classes");
    params_.queries = static_cast<int>(mask_logits.size(0));
    params_.classes = static_cast<int>(probability_.size(1));
    params_.probability = probability_.const_data_ptr<float>();
    lists_ = torch::stable::new_empty(probability_, {params_.queries + 1}, ScalarType::Int);
    params_.kept = lists_.mutable_data_ptr<int32_t>();
    params_.query = params_.kept + 1;
    most_ = torch::stable::new_empty(probability_, {params_.queries}, ScalarType::Float);
    params_.most = most_.mutable_data_ptr<float>();
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
  Tensor probability_, lists_, most_;
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

  // Makes scores of some rows of the network input at a time, then resizes them to the output rows that they suffice
  // for.
  void resize_scores(const SemanticResult& result) {
    const CudaMasks output = source_.from_input_to_output();
    read_from(source_.at_input());
    const int height = output.height, width = output.width;  // the valid part of the network input
    const int64_t row_elements = std::max<int64_t>(1, int64_t{params_.classes} * width);
    // An output row needs two rows, where there are two.
    const int most_rows =
        static_cast<int>(std::min<int64_t>(std::max<int64_t>(2, kCachedFloats / row_elements), height));
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
      // As many output rows as the band has samples for. One always fits, for it needs two rows.
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

}  // namespace maskformer_ext
