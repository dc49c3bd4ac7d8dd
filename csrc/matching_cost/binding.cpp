// torch.ops.maskformer_ext.matching_cost: schema, checks, allocation, CPU.
#include <algorithm>
#include <optional>
#include <vector>

#include "common/aligned.h"
#include "common/checks.h"
#include "matching_cost/matching_cost.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost";

using baseline::AlignedVector;

int64_t round_up(int64_t n) { return (n + kMatchingCostLanes - 1) / kMatchingCostLanes * kMatchingCostLanes; }

// What the targets of all images have in common.
struct TargetShape {
  const char* pixels;
  ScalarType dtype;
  const char* void_map;  // null: void is not ignored, or none is given
  bool from_masks, ignore_void;
  int64_t segments;  // of every image, padding included
  int64_t target_height, target_width;
  int64_t height, width;
};

// One image's targets, prepared, and the memory behind them.
class PreparedTargets {
 public:
  ImageTargets view = {};
  int32_t least = 0, most = -1;  // segment ids; nothing is prepared where they are out of range
  int64_t places = 0;            // sorted pixels, padding included

  void prepare(const TargetShape& shape, int64_t image, int64_t num_segments) {
    if (shape.from_masks) {
      prepare_masks(shape, image, num_segments);
      return;
    }
    const bool wide = shape.dtype == ScalarType::Int;
    const int64_t target_pixels = shape.target_height * shape.target_width;
    const char* segment_map = shape.pixels + image * target_pixels * (wide ? 4 : 2);
    segment_id_range(segment_map, wide, target_pixels, &least, &most);
    if (least < -1 || most >= num_segments) return;
    sort_pixels({.segment_map = segment_map,
                 .wide = wide,
                 .ignore_void = shape.ignore_void,
                 .target_height = shape.target_height,
                 .target_width = shape.target_width,
                 .height = shape.height,
                 .width = shape.width,
                 .num_segments = num_segments,
                 .scratch = nullptr});
    view.area = view.order.area;
  }

 private:
  std::vector<int32_t> runs_;
  std::vector<int64_t> counts_, mask_area_;
  AlignedVector<float> weight_;
  std::vector<uint8_t> masks_;

  void sort_pixels(PixelOrderParams params) {
    const int64_t pixels = params.height * params.width, groups = params.num_segments + 1;
    std::vector<int32_t> scratch(2 * pixels + 1 + params.height + params.width);
    params.scratch = scratch.data();
    runs_.resize(3 * pixels);
    counts_.resize(2 * groups + 1);
    weight_.resize(round_up(pixels) + groups * kMatchingCostLanes);
    PixelOrder& order = view.order;
    order.source = runs_.data();
    order.destination = order.source + pixels;
    order.length = order.destination + pixels;
    order.begin = counts_.data();
    order.area = order.begin + groups + 1;
    order.weight = weight_.data();
    order_pixels(params, order);
    places = order.begin[order.num_groups];
  }

  void sort_groups(const TargetShape& shape, const std::vector<int32_t>& group, int64_t num_groups) {
    sort_pixels({.segment_map = group.data(),
                 .wide = true,
                 .ignore_void = true,
                 .target_height = shape.height,
                 .target_width = shape.width,
                 .height = shape.height,
                 .width = shape.width,
                 .num_segments = num_groups,
                 .scratch = nullptr});
  }

  void prepare_masks(const TargetShape& shape, int64_t image, int64_t num_segments) {
    const int64_t pixels = shape.height * shape.width, target_pixels = shape.target_height * shape.target_width;
    // Beyond this many groups, about one a few pixels, adding up groups would take longer than masked sums.
    const int64_t max_groups = std::clamp<int64_t>(pixels * num_segments / (128 + num_segments), 1, 1024);
    std::vector<int32_t> scratch(shape.height + shape.width + 3 * max_groups), group(pixels);
    std::vector<uint8_t> member(max_groups * num_segments);
    const char* excluded = shape.void_map == nullptr ? nullptr : shape.void_map + image * target_pixels;
    const MaskGroupParams params = {
        .masks = reinterpret_cast<const uint8_t*>(shape.pixels) + image * shape.segments * target_pixels,
        .excluded = reinterpret_cast<const uint8_t*>(excluded),
        .target_height = shape.target_height,
        .target_width = shape.target_width,
        .height = shape.height,
        .width = shape.width,
        .num_segments = num_segments,
        .max_groups = max_groups,
        .scratch = scratch.data()};
    MaskGroups groups = {.num_groups = 0, .group = group.data(), .member = member.data()};
    group_pixels_by_masks(params, groups);
    mask_area_.assign(num_segments, 0);
    view.area = mask_area_.data();
    if (groups.num_groups < 0) {
      for (int32_t& g : group) g = std::min(g, 0);
      sort_groups(shape, group, 1);
      view.stride = places;
      masks_.resize(num_segments * places);
      order_masks(params, view.order, places, masks_.data(), mask_area_.data());
      view.sorted_masks = masks_.data();
      return;
    }
    sort_groups(shape, group, groups.num_groups);
    const int64_t columns = view.order.num_groups;  // void, the last, is empty and in no mask
    masks_.assign(num_segments * columns, 0);
    for (int64_t g = 0; g < groups.num_groups; ++g) {
      for (int64_t t = 0; t < num_segments; ++t) {
        const uint8_t inside = member[g * num_segments + t];
        masks_[t * columns + g] = inside;
        mask_area_[t] += inside * view.order.area[g];
      }
    }
    view.member = masks_.data();
  }
};

// The working memory of one thread.
struct ScratchStorage {
  AlignedVector<float> floats;
  std::vector<double> doubles;
  MatchingCostScratch scratch;

  ScratchStorage(int64_t pixels, int64_t places, int64_t groups, int64_t classes, int64_t segments) {
    const int64_t row = round_up(pixels) + kMatchingCostLanes, sorted = round_up(places) + kMatchingCostLanes;
    floats.resize(row + sorted + 3 * kMatchingCostTile + classes + 1);
    doubles.resize(2 * segments + 3 * groups);
    scratch.row = floats.data();
    scratch.sorted = scratch.row + row;
    scratch.tiles = scratch.sorted + sorted;
    scratch.probability = scratch.tiles + 3 * kMatchingCostTile;
    scratch.focal = doubles.data();
    scratch.inside = scratch.focal + segments;
    scratch.positive = scratch.inside + segments;
    scratch.negative = scratch.positive + groups;
    scratch.foreground = scratch.negative + groups;
  }
};

void check_labels(const int64_t* labels, const int64_t* num_segments, int64_t images, int64_t segments,
                  int64_t classes) {
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

Tensor matching_cost_cpu(const Tensor& class_logits_in, const Tensor& mask_logits_in, const Tensor& pixels_in,
                         const Tensor& labels_in, const Tensor& num_segments_in, const std::optional<Tensor>& void_in,
                         double class_weight, double focal_weight, double dice_weight, double alpha, double gamma,
                         bool ignore_void) {
  const Tensor class_logits = torch::stable::contiguous(class_logits_in);
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const Tensor targets = torch::stable::contiguous(pixels_in);
  const Tensor labels = torch::stable::contiguous(labels_in);
  const Tensor num_segments = torch::stable::contiguous(num_segments_in);
  const std::optional<Tensor> void_map =
      void_in.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*void_in)) : std::nullopt;

  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  for (int64_t i = 0; i < dim - 2; ++i) {
    STD_TORCH_CHECK(class_logits.size(i) == mask_logits.size(i), op, ": class_logits must begin as mask_logits, got ",
                    shape_string(class_logits), " and ", shape_string(mask_logits));
  }
  check_dim(labels, 2, op, "labels");
  check_dtype(labels, ScalarType::Long, op, "labels");
  check_dim(num_segments, 1, op, "num_segments");
  check_dtype(num_segments, ScalarType::Long, op, "num_segments");
  const int64_t images = mask_logits.size(dim - 4), queries = mask_logits.size(dim - 3);
  const int64_t height = mask_logits.size(dim - 2), width = mask_logits.size(dim - 1);
  const int64_t classes = class_logits.size(dim - 2) - 1, segments = labels.size(1);
  const bool from_masks = targets.dim() == 4;
  STD_TORCH_CHECK((from_masks ? targets.size(1) == segments : targets.dim() == 3) && targets.size(0) == images &&
                      labels.size(0) == images && num_segments.size(0) == images,
                  op, ": targets must be of B = ", images, " images and T = ", segments, " segments, got pixels ",
                  shape_string(targets), ", labels ", shape_string(labels), ", num_segments ",
                  shape_string(num_segments));
  const ScalarType pixel_type = targets.scalar_type();
  STD_TORCH_CHECK(from_masks ? pixel_type == ScalarType::Bool || pixel_type == ScalarType::Byte
                             : pixel_type == ScalarType::Int || pixel_type == ScalarType::Short,
                  op, ": a segment_map must be int16 or int32, masks bool or uint8, got ",
                  torch::headeronly::toString(pixel_type));
  const int64_t target_height = targets.size(targets.dim() - 2), target_width = targets.size(targets.dim() - 1);
  const int64_t target_pixels = target_height * target_width, num_pixels = height * width;
  STD_TORCH_CHECK(target_pixels > 0 || num_pixels == 0, op, ": targets must have a pixel, got ", shape_string(targets));
  STD_TORCH_CHECK(num_pixels < INT32_MAX / 2, op, ": mask_logits must have fewer than 2^30 pixels, got ",
                  shape_string(mask_logits));
  STD_TORCH_CHECK(classes >= 1, op, ": class_logits must have at least 2 columns, got ", shape_string(class_logits));
  if (void_map.has_value()) {
    STD_TORCH_CHECK(void_map->dim() == 3 && void_map->size(0) == images && void_map->size(1) == target_height &&
                        void_map->size(2) == target_width,
                    op, ": void must be (B, H, W) as the masks, got ", shape_string(*void_map));
    STD_TORCH_CHECK(kernel_dtype(*void_map, op, "void") == DType::uint8, op, ": void must be bool");
  }

  std::vector<int64_t> cost_shape(class_logits.sizes().begin(), class_logits.sizes().end());
  cost_shape.back() = segments;
  Tensor cost = torch::stable::new_empty(class_logits, cost_shape, ScalarType::Float);
  const int64_t* counts = num_segments.const_data_ptr<int64_t>();
  check_labels(labels.const_data_ptr<int64_t>(), counts, images, segments, classes);

  const TargetShape shape = {
      .pixels = static_cast<const char*>(targets.const_data_ptr()),
      .dtype = pixel_type,
      .void_map = void_map.has_value() && ignore_void ? static_cast<const char*>(void_map->const_data_ptr()) : nullptr,
      .from_masks = from_masks,
      .ignore_void = ignore_void,
      .segments = segments,
      .target_height = target_height,
      .target_width = target_width,
      .height = height,
      .width = width};
  std::vector<PreparedTargets> prepared(images);
  torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) prepared[b].prepare(shape, b, counts[b]);
  });
  std::vector<ImageTargets> views;
  int64_t places = 0, groups = 0;
  for (int64_t b = 0; b < images; ++b) {
    STD_TORCH_CHECK(prepared[b].least >= -1 && prepared[b].most < counts[b], op,
                    ": segment_map must lie between -1 and num_segments - 1 = ", counts[b] - 1, ", got values from ",
                    prepared[b].least, " to ", prepared[b].most, " in image ", b);
    views.push_back(prepared[b].view);
    places = std::max(places, prepared[b].places);
    groups = std::max(groups, prepared[b].view.order.num_groups);
  }

  const MatchingCostParams params = {.class_logits = class_logits.const_data_ptr(),
                                     .class_dtype = floating_dtype(class_logits, op, "class_logits"),
                                     .mask_logits = mask_logits.const_data_ptr(),
                                     .mask_dtype = floating_dtype(mask_logits, op, "mask_logits"),
                                     .labels = labels.const_data_ptr<int64_t>(),
                                     .num_segments = counts,
                                     .targets = views.data(),
                                     .images = images,
                                     .queries = queries,
                                     .classes = classes,
                                     .segments = segments,
                                     .pixels = num_pixels,
                                     .class_weight = static_cast<float>(class_weight),
                                     .focal_weight = static_cast<float>(focal_weight),
                                     .dice_weight = static_cast<float>(dice_weight),
                                     .alpha = static_cast<float>(alpha),
                                     .gamma = static_cast<float>(gamma),
                                     .cost = cost.mutable_data_ptr<float>()};
  int64_t rows = 1;
  for (int64_t i = 0; i < dim - 2; ++i) rows *= mask_logits.size(i);
  if (segments == 0) return cost;
  // Below about 20 microseconds of work a second thread costs more than it saves.
  const int64_t grain = 1 + 16384 / (1 + num_pixels);
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const ScratchStorage thread(num_pixels, places, groups, classes, segments);
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
