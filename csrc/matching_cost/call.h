// A call of the matching costs on the CPU: a batch's targets, checked and prepared, parameters, and working memory.
// matching_cost_from_embeddings shares it.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "matching_cost/check_targets.h"
#include "matching_cost/prepared_targets.h"

namespace maskformer_ext {

// The working memory of one thread.
struct MatchingCostStorage {
  AlignedVector<float> floats;
  std::vector<double> doubles;
  MatchingCostScratch scratch;

  MatchingCostStorage(int64_t pixels, int64_t places, int64_t groups, int64_t classes, int64_t segments) {
    const int64_t row = round_up(pixels) + kMatchingCostLanes, sorted = round_up(places) + kMatchingCostLanes;
    floats.resize(row + sorted + 4 * kMatchingCostTile + classes + 1);
    doubles.resize(2 * segments + 4 * groups);
    scratch.row = floats.data();
    scratch.sorted = scratch.row + row;
    scratch.tiles = scratch.sorted + sorted;
    scratch.probability = scratch.tiles + 4 * kMatchingCostTile;
    scratch.focal = doubles.data();
    scratch.wrong = scratch.focal + segments;
    scratch.positive = scratch.wrong + segments;
    scratch.negative = scratch.positive + groups;
    scratch.foreground = scratch.negative + groups;
    scratch.background = scratch.foreground + groups;
  }
};

inline void check_labels(const char* op, const int64_t* labels, const int64_t* num_segments, int64_t images,
                         int64_t segments, int64_t classes) {
  for (int64_t b = 0; b < images; ++b) {
    STD_TORCH_CHECK(num_segments[b] >= 0 && num_segments[b] <= segments, op,
                    ": num_segments must lie between 0 and T = ", segments, ", got ", num_segments[b], " in image ", b);
    for (int64_t t = 0; t < num_segments[b]; ++t) {
      const int64_t label = labels[b * segments + t];
      STD_TORCH_CHECK(label >= 0 && label < classes, op, ": labels must lie between 0 and K - 1 = ", classes - 1,
                      ", got ", label, " for segment ", t, " of image ", b);
    }
  }
}

// The targets of every image, prepared once per call.
class PreparedBatch {
 public:
  PreparedBatch(const char* op, const Tensor& pixels, const Tensor& labels, const Tensor& num_segments,
                const std::optional<Tensor>& void_pixels, bool ignore_void, int64_t images, int64_t classes,
                int64_t height, int64_t width)
      : pixels_(torch::stable::contiguous(pixels)),
        labels_(torch::stable::contiguous(labels)),
        num_segments_(torch::stable::contiguous(num_segments)),
        images_(images),
        classes_(classes),
        num_pixels_(height * width) {
    if (void_pixels.has_value()) void_ = torch::stable::contiguous(*void_pixels);
    check(op);
    const TargetShape shape = {
        .pixels = static_cast<const char*>(pixels_.const_data_ptr()),
        .wide = pixels_.scalar_type() == ScalarType::Int,
        .void_map = void_.has_value() && ignore_void ? static_cast<const char*>(void_->const_data_ptr()) : nullptr,
        .from_masks = pixels_.dim() == 4,
        .ignore_void = ignore_void,
        .segments = segments(),
        .target_height = pixels_.size(pixels_.dim() - 2),
        .target_width = pixels_.size(pixels_.dim() - 1),
        .height = height,
        .width = width};
    prepared_.resize(images);
    torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) prepared_[b].prepare(shape, b, counts()[b]);
    });
    for (int64_t b = 0; b < images; ++b) {
      STD_TORCH_CHECK(prepared_[b].lowest >= -1 && prepared_[b].highest < counts()[b], op,
                      ": segment_map must lie between -1 and num_segments - 1 = ", counts()[b] - 1,
                      ", got values from ", prepared_[b].lowest, " to ", prepared_[b].highest, " in image ", b);
      views_.push_back(prepared_[b].view);
    }
  }

  int64_t segments() const { return labels_.size(1); }
  const int64_t* counts() const { return num_segments_.const_data_ptr<int64_t>(); }
  const ImageTargets& operator[](int64_t image) const { return views_[image]; }

  // The largest number of places, and of groups, that an image has.
  int64_t places() const {
    int64_t most = 0;
    for (const PreparedTargets& image : prepared_) most = std::max(most, image.places);
    return most;
  }
  int64_t groups() const {
    int64_t most = 0;
    for (const ImageTargets& image : views_) most = std::max(most, image.order.num_groups);
    return most;
  }

  // (..., B, Q, T) for class logits (..., B, Q, K + 1).
  Tensor new_cost(const Tensor& class_logits) const {
    std::vector<int64_t> shape(class_logits.sizes().begin(), class_logits.sizes().end());
    shape.back() = segments();
    return torch::stable::new_empty(class_logits, shape, ScalarType::Float);
  }

  // All of the parameters that do not come from mask logits.
  MatchingCostParams params(const char* op, const Tensor& class_logits, const MatchingCostWeights& weights,
                            Tensor& cost) const {
    return {.class_logits = class_logits.const_data_ptr(),
            .class_dtype = floating_dtype(class_logits, op, "class_logits"),
            .mask_logits = nullptr,
            .mask_dtype = DType::float32,
            .first_row = 0,
            .labels = labels_.const_data_ptr<int64_t>(),
            .num_segments = counts(),
            .targets = views_.data(),
            .images = images_,
            .queries = class_logits.size(class_logits.dim() - 2),
            .classes = classes_,
            .segments = segments(),
            .pixels = num_pixels_,
            .class_weight = static_cast<float>(weights.class_weight),
            .focal_weight = static_cast<float>(weights.focal_weight),
            .dice_weight = static_cast<float>(weights.dice_weight),
            .alpha = static_cast<float>(weights.alpha),
            .gamma = static_cast<float>(weights.gamma),
            .cost = cost.mutable_data_ptr<float>()};
  }

 private:
  Tensor pixels_, labels_, num_segments_;
  std::optional<Tensor> void_;
  int64_t images_, classes_, num_pixels_;
  std::vector<PreparedTargets> prepared_;
  std::vector<ImageTargets> views_;

  void check(const char* op) const {
    check_matching_targets(op, pixels_, labels_, num_segments_, void_, {images_, num_pixels_, classes_});
    check_labels(op, labels_.const_data_ptr<int64_t>(), counts(), images_, segments(), classes_);
  }
};

}  // namespace maskformer_ext
