// A call of the point matching costs on the CPU: a batch's targets and points, checked, and the points in order.
// point_matching_cost_from_embeddings shares it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common/segment_ids.h"
#include "matching_cost/call.h"
#include "point_matching_cost/point_matching_cost.h"

namespace maskformer_ext {

struct PointCostWeights {
  double class_weight, mask_weight, dice_weight;
};

// The ordered points of one image in one layer, and the memory behind them.
class OrderedPoints {
 public:
  PointTargets view = {};

  void order(PointTargetsParams params) {
    const int64_t count = params.count, segments = params.num_segments;
    view.count = count;
    const int64_t tiles = view.tiles(), places = tiles * kPointTile;
    // Not initialised: most of it is never touched.
    numbers_ = std::make_unique_for_overwrite<int32_t[]>(4 * places + tiles + 1);
    floats_ = std::make_unique_for_overwrite<float[]>(4 * places + (params.from_masks ? places * segments : 0));
    area_ = std::make_unique_for_overwrite<double[]>(segments);
    view.tap = numbers_.get();
    view.tile_begin = view.tap + 4 * places;
    view.tap_weight = floats_.get();
    view.area = area_.get();
    std::unique_ptr<PointOwners[]> owners;
    if (params.from_masks) {
      view.inside = view.tap_weight + 4 * places;
    } else {
      groups_ = std::make_unique_for_overwrite<TileGroup[]>(5 * count);
      shares_ = std::make_unique_for_overwrite<PointShare[]>(5 * count);
      owners = std::make_unique_for_overwrite<PointOwners[]>(count);
      view.groups = groups_.get();
      view.shares = shares_.get();
      params.owners = owners.get();
    }
    const auto scratch = std::make_unique_for_overwrite<int32_t[]>(4 * count + params.height + segments + 4);
    params.scratch = scratch.get();
    order_points(params, view);
  }

 private:
  std::unique_ptr<int32_t[]> numbers_;
  std::unique_ptr<float[]> floats_;
  std::unique_ptr<double[]> area_;
  std::unique_ptr<TileGroup[]> groups_;
  std::unique_ptr<PointShare[]> shares_;
};

// The tensors of a call, checked.
class PointBatch {
 public:
  PointBatch(const char* op, const Tensor& class_logits, const Tensor& pixels, const Tensor& labels,
             const Tensor& num_segments, const Tensor& points, const PointCostWeights& weights, int64_t sampling,
             int64_t height, int64_t width)
      : class_logits_(torch::stable::contiguous(class_logits)),
        pixels_(torch::stable::contiguous(pixels)),
        labels_(torch::stable::contiguous(labels)),
        num_segments_(torch::stable::contiguous(num_segments)),
        points_(torch::stable::contiguous(points)),
        nearest_(sampling == 1),
        height_(height),
        width_(width) {
    const int64_t dim = class_logits_.dim();
    STD_TORCH_CHECK(dim >= 3, op, ": class_logits must be (..., B, Q, K + 1), got ", shape_string(class_logits_));
    STD_TORCH_CHECK(sampling == 0 || sampling == 1, op, ": sampling must be 0 or 1, got ", sampling);
    params.images = class_logits_.size(dim - 3);
    params.queries = class_logits_.size(dim - 2);
    params.classes = class_logits_.size(dim - 1) - 1;
    params.layers = 1;
    for (int64_t i = 0; i < dim - 3; ++i) params.layers *= class_logits_.size(i);
    check_matching_targets(op, pixels_, labels_, num_segments_, std::nullopt,
                           {params.images, height * width, params.classes});
    check_dtype(points_, ScalarType::Float, op, "points");
    count_ = points_.dim() == dim ? points_.size(dim - 2) : -1;
    STD_TORCH_CHECK(count_ >= 0 && points_.size(dim - 1) == 2 &&
                        points_.numel() == params.layers * params.images * count_ * 2 && count_ < INT32_MAX / 8,
                    op, ": points must be (..., B, P, 2) as class_logits, got ", shape_string(points_));
    STD_TORCH_CHECK(count_ == 0 || height * width > 0, op, ": mask predictions must have a pixel");
    params.class_logits = class_logits_.const_data_ptr();
    params.class_dtype = floating_dtype(class_logits_, op, "class_logits");
    params.labels = labels_.const_data_ptr<int64_t>();
    params.num_segments = num_segments_.const_data_ptr<int64_t>();
    params.segments = labels_.size(1);
    params.class_weight = static_cast<float>(weights.class_weight);
    params.mask_weight = static_cast<float>(weights.mask_weight);
    params.dice_weight = static_cast<float>(weights.dice_weight);
    check_labels(op, params.labels, params.num_segments, params.images, params.segments, params.classes);
    if (!from_masks()) check_ids(op);
    std::vector<int64_t> shape(class_logits_.sizes().begin(), class_logits_.sizes().end());
    shape.back() = params.segments;
    cost = torch::stable::new_empty(class_logits_, shape, ScalarType::Float);
    params.cost = cost.mutable_data_ptr<float>();
  }
  PointBatch(const PointBatch&) = delete;
  PointBatch& operator=(const PointBatch&) = delete;

  PointCostParams params = {};
  Tensor cost;  // (..., B, Q, T)

  bool from_masks() const { return pixels_.dim() == 4; }
  int64_t count() const { return count_; }

  void order(int64_t layer, int64_t image, OrderedPoints& points) const {
    const int64_t dim = pixels_.dim(), target_height = pixels_.size(dim - 2), target_width = pixels_.size(dim - 1);
    const int64_t plane = target_height * target_width;
    const bool wide = pixels_.scalar_type() == ScalarType::Int;
    const int64_t image_size = from_masks() ? params.segments * plane : plane * (wide ? 4 : 2);
    points.order({.points = points_.const_data_ptr<float>() + (layer * params.images + image) * count_ * 2,
                  .pixels = static_cast<const char*>(pixels_.const_data_ptr()) + image * image_size,
                  .wide = wide,
                  .from_masks = from_masks(),
                  .nearest = nearest_,
                  .count = params.num_segments[image] > 0 ? count_ : 0,
                  .num_segments = params.num_segments[image],
                  .target_height = target_height,
                  .target_width = target_width,
                  .height = height_,
                  .width = width_,
                  .scratch = nullptr,
                  .owners = nullptr});
  }

 private:
  Tensor class_logits_, pixels_, labels_, num_segments_, points_;
  bool nearest_;
  int64_t height_, width_, count_ = 0;

  void check_ids(const char* op) const {
    std::vector<int64_t> lowest(params.images, 0), highest(params.images, -1);
    const int64_t height = pixels_.size(1), width = pixels_.size(2);
    const SegmentIdRangeParams range = {.segment_map = pixels_.const_data_ptr(),
                                        .wide = pixels_.scalar_type() == ScalarType::Int,
                                        .image_stride = height * width,
                                        .row_stride = width,
                                        .height = height,
                                        .width = width,
                                        .lowest = lowest.data(),
                                        .highest = highest.data()};
    torch::stable::parallel_for(0, params.images, 1,
                                [&](int64_t begin, int64_t end) { segment_id_range(range, begin, end); });
    for (int64_t b = 0; b < params.images; ++b) {
      STD_TORCH_CHECK(lowest[b] >= -1 && highest[b] < params.num_segments[b], op,
                      ": segment_map must lie between -1 and num_segments - 1 = ", params.num_segments[b] - 1,
                      ", got values from ", lowest[b], " to ", highest[b], " in image ", b);
    }
  }
};

}  // namespace maskformer_ext
