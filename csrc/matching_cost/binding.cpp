// torch.ops.maskformer_ext.matching_cost: schema, checks, allocation, CPU.
#include <algorithm>
#include <memory>
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

// One image's pixel order and the memory behind it.
struct OrderStorage {
  PixelOrder order = {};
  std::vector<int32_t> runs;
  std::vector<int64_t> counts;
  AlignedVector<float> weight;
  std::vector<uint8_t> masks;

  void fill(const PixelOrderParams& params) {
    const int64_t pixels = params.height * params.width;
    const bool from_masks = params.segment_map == nullptr;
    const int64_t groups = from_masks ? 1 : params.num_segments + 1;
    runs.resize(3 * pixels);
    counts.resize(groups + 1 + std::max(groups, params.num_segments));
    order.capacity = round_up(pixels) + groups * kMatchingCostLanes;
    weight.resize(order.capacity);
    if (from_masks) masks.resize(params.num_segments * order.capacity);
    std::vector<int32_t> scratch(2 * pixels + 1 + params.height + params.width);
    order.source = runs.data();
    order.destination = order.source + pixels;
    order.length = order.destination + pixels;
    order.begin = counts.data();
    order.area = order.begin + groups + 1;
    order.weight = weight.data();
    order.masks = from_masks ? masks.data() : nullptr;
    order.scratch = scratch.data();
    order_pixels(params, order);
  }
};

// The working memory of one thread.
struct ScratchStorage {
  AlignedVector<float> floats;
  std::vector<double> doubles;
  MatchingCostScratch scratch;

  ScratchStorage(int64_t pixels, int64_t capacity, int64_t classes, int64_t segments) {
    const int64_t row = round_up(pixels) + kMatchingCostLanes, sorted = capacity + kMatchingCostLanes;
    const int64_t groups = segments + 1;
    floats.resize(row + sorted + classes + 1 + 3 * kMatchingCostTile);
    doubles.resize(3 * groups);
    scratch.row = floats.data();
    scratch.sorted = scratch.row + row;
    scratch.positive_tile = scratch.sorted + sorted;
    scratch.negative_tile = scratch.positive_tile + kMatchingCostTile;
    scratch.foreground_tile = scratch.negative_tile + kMatchingCostTile;
    scratch.probability = scratch.foreground_tile + kMatchingCostTile;
    scratch.focal = doubles.data();
    scratch.inside = scratch.focal + groups;
    scratch.outside = scratch.inside + groups;
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

  std::vector<OrderStorage> storage(images);
  std::vector<PixelOrder> orders(images);
  std::vector<int32_t> least(images, 0), most(images, -1);
  const char* pixels = static_cast<const char*>(targets.const_data_ptr());
  const int64_t pixel_size = pixel_type == ScalarType::Int ? 4 : pixel_type == ScalarType::Short ? 2 : 1;
  const int64_t image_bytes = target_pixels * pixel_size * (from_masks ? segments : 1);
  torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const char* image = pixels + b * image_bytes;
      const bool wide = pixel_type == ScalarType::Int;
      if (!from_masks) {
        segment_id_range(image, wide, target_pixels, &least[b], &most[b]);
        if (least[b] < -1 || most[b] >= counts[b]) continue;  // reported below, outside of the threads
      }
      const char* excluded = void_map.has_value() && ignore_void
                                 ? static_cast<const char*>(void_map->const_data_ptr()) + b * target_pixels
                                 : nullptr;
      storage[b].fill({.segment_map = from_masks ? nullptr : image,
                       .wide = wide,
                       .masks = from_masks ? reinterpret_cast<const uint8_t*>(image) : nullptr,
                       .void_map = reinterpret_cast<const uint8_t*>(excluded),
                       .ignore_void = ignore_void,
                       .target_height = target_height,
                       .target_width = target_width,
                       .height = height,
                       .width = width,
                       .num_segments = counts[b]});
      orders[b] = storage[b].order;
    }
  });
  int64_t capacity = 0;
  for (int64_t b = 0; b < images; ++b) {
    STD_TORCH_CHECK(least[b] >= -1 && most[b] < counts[b], op,
                    ": segment_map must lie between -1 and num_segments - 1 = ", counts[b] - 1, ", got values from ",
                    least[b], " to ", most[b], " in image ", b);
    capacity = std::max(capacity, orders[b].capacity);
  }

  const MatchingCostParams params = {.class_logits = class_logits.const_data_ptr(),
                                     .class_dtype = floating_dtype(class_logits, op, "class_logits"),
                                     .mask_logits = mask_logits.const_data_ptr(),
                                     .mask_dtype = floating_dtype(mask_logits, op, "mask_logits"),
                                     .labels = labels.const_data_ptr<int64_t>(),
                                     .num_segments = counts,
                                     .orders = orders.data(),
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
    const ScratchStorage thread(num_pixels, capacity, classes, segments);
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
