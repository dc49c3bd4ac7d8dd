// The targets of one image, prepared for matching on the CPU, and the memory behind them. Torch-free.
#pragma once

#include <algorithm>
#include <vector>

#include "common/aligned.h"
#include "common/segment_ids.h"
#include "matching_cost/matching_cost.h"

namespace maskformer_ext {

using baseline::AlignedVector;

inline int64_t round_up(int64_t n) { return (n + kMatchingCostLanes - 1) / kMatchingCostLanes * kMatchingCostLanes; }

// What the targets of all images have in common.
struct TargetShape {
  const char* pixels;
  bool wide;             // a segment map is int32
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
  int64_t lowest = 0, highest = -1;  // segment ids; nothing is prepared where they are out of range
  int64_t places = 0;                // sorted pixels, padding included

  void prepare(const TargetShape& shape, int64_t image, int64_t num_segments) {
    if (shape.from_masks) {
      prepare_masks(shape, image, num_segments);
      return;
    }
    const int64_t target_pixels = shape.target_height * shape.target_width;
    const char* segment_map = shape.pixels + image * target_pixels * (shape.wide ? 4 : 2);
    const SegmentIdRangeParams range = {.segment_map = segment_map,
                                        .wide = shape.wide,
                                        .image_stride = 0,
                                        .row_stride = 0,
                                        .height = 1,
                                        .width = target_pixels,
                                        .lowest = &lowest,
                                        .highest = &highest};
    segment_id_range(range, 0, 1);
    if (lowest < -1 || highest >= num_segments) return;
    sort_pixels({.segment_map = segment_map,
                 .wide = shape.wide,
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
    // Beyond this many groups, about one per few pixels, adding up groups would take longer than masked sums.
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

}  // namespace maskformer_ext
